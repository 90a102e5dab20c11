//! Full disk of the embedded database: keys are checked, changes are rejected, and the service recovers without a
//! restart when there is space.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::full_key,
    support::{
        Client, Program,
        program::{QUICK, assert_fails_with_one_line, run_in},
        server::query,
    },
    volume::Volume,
};

#[test]
fn full_disk_allows_key_checks_and_rejects_changes_until_there_is_space() {
    let Some(volume) = Volume::of(4) else {
        return;
    };
    let url = format!("sqlite://{}/latchkey.db", volume.path().display());
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &settings);
    let ada = program.client().sign_up("ada@example.com");
    let (used, unused) = (ada.create_key(), ada.create_key());
    let caller = |key: &serde_json::Value| program.client().with_key(full_key(key));
    assert_eq!(caller(&used).get("/protected").status, 200);
    let mut good = vec![used.clone(), unused.clone()];
    for _ in 0..3 {
        volume.fill();
        // Changes that fit into the preallocated write-ahead log may still succeed.
        let rejected = create_keys_until_rejected(&ada, &mut good);
        rejected.assert_problem(503, "unavailable");
        let started = Instant::now();
        ada.post("/api-keys").assert_problem(503, "unavailable");
        assert!(
            started.elapsed() < Duration::from_secs(6),
            "{:?}",
            started.elapsed()
        );
        // A cached key, and one that is not cached.
        for key in [&used, &unused] {
            assert_eq!(caller(key).get("/protected").status, 200);
        }
        assert_eq!(ada.get("/auth/me").status, 200);
        assert_eq!(program.client().get("/health/live").status, 200);
        // The service has usage counts to write meanwhile.
        thread::sleep(Duration::from_millis(1500));

        volume.empty();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let reply = ada.post("/api-keys");
            if reply.status == 201 {
                good.push(reply.json());
                break;
            }
            assert!(
                Instant::now() < deadline,
                "the service does not recover: {reply:?}"
            );
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

fn create_keys_until_rejected(
    ada: &Client,
    good: &mut Vec<serde_json::Value>,
) -> crate::support::Reply {
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
fn start_on_a_full_disk_fails_with_one_line_that_names_the_file() {
    let Some(volume) = Volume::of(1) else {
        return;
    };
    volume.fill();
    let url = format!("sqlite://{}/latchkey.db", volume.path().display());
    let folder = tempfile::tempdir().unwrap();
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    assert_fails_with_one_line(&run_in(folder.path(), &[], &settings), 1, &["latchkey.db"]);
}
