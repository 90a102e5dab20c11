//! The embedded database's disk is full: what is known goes on, changes are refused, and with space again all
//! is well without a restart.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::text_of,
    support::{
        Client, Program,
        program::{QUICK, assert_refused, run_in},
        server::query,
    },
    volume::Volume,
};

#[test]
fn on_a_full_disk_keys_are_checked_and_changes_wait_for_space() {
    let Some(volume) = Volume::of(4) else {
        return;
    };
    let url = format!("sqlite://{}/latchkey.db", volume.path().display());
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &settings);
    let ada = program.client().sign_up("ada@example.com");
    let (used, unused) = (ada.create_key(), ada.create_key());
    let caller = |key: &serde_json::Value| program.client().with_key(text_of(key));
    assert_eq!(caller(&used).get("/protected").status, 200);
    let mut good = vec![used.clone(), unused.clone()];
    for _ in 0..3 {
        volume.fill();
        // What the log of the database has room for already may still be written.
        let refused = until_refused(&ada, &mut good);
        refused.assert_problem(503, "unavailable");
        let asked = Instant::now();
        ada.post("/api-keys").assert_problem(503, "unavailable");
        assert!(
            asked.elapsed() < Duration::from_secs(6),
            "{:?}",
            asked.elapsed()
        );
        // Those that are remembered, and one that is not.
        for key in [&used, &unused] {
            assert_eq!(caller(key).get("/protected").status, 200);
        }
        assert_eq!(ada.get("/auth/me").status, 200);
        assert_eq!(program.client().get("/health/live").status, 200);
        // It has notes to write of who used what.
        thread::sleep(Duration::from_millis(1500));

        volume.empty();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let reply = ada.post("/api-keys");
            if reply.status == 201 {
                good.push(reply.json());
                break;
            }
            assert!(Instant::now() < deadline, "it does not recover: {reply:?}");
            thread::sleep(Duration::from_millis(50));
        }
        let revoked = good.pop().unwrap();
        assert_eq!(ada.delete(&crate::support::path_of(&revoked)).status, 200);
        assert_eq!(caller(&revoked).get("/protected").status, 401);
    }
    for key in &good {
        assert_eq!(caller(key).get("/protected").status, 200);
    }
    drop(program.stop());
    let integrity = "SELECT integrity_check AS text FROM pragma_integrity_check";
    assert_eq!(query(&url, integrity), ["ok"]);
}

fn until_refused(ada: &Client, good: &mut Vec<serde_json::Value>) -> crate::support::Reply {
    for _ in 0..1000 {
        let reply = ada.post("/api-keys");
        if reply.status != 201 {
            return reply;
        }
        good.push(reply.json());
    }
    panic!("the disk is not full");
}

#[test]
fn a_start_on_a_full_disk_is_refused_with_a_line_that_names_the_file() {
    let Some(volume) = Volume::of(1) else {
        return;
    };
    volume.fill();
    let url = format!("sqlite://{}/latchkey.db", volume.path().display());
    let folder = tempfile::tempdir().unwrap();
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    assert_refused(&run_in(folder.path(), &[], &settings), 1, &["latchkey.db"]);
}
