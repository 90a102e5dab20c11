//! Kill during changes (`kill -9`, out of memory): the service starts again with every change that it had
//! acknowledged.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::{Acknowledged, Changes, await_ready},
    repetitions::repetitions,
    support::{Program, postgres, program::QUICK, server::query},
};

fn assert_acknowledged_changes_survive(settings: &[(&str, &str)], folder: &Path) -> Acknowledged {
    let mut all = Acknowledged::default();
    for _ in 0..repetitions(5, 50) {
        let mut program = Program::start(folder, settings);
        // Includes the changes of all previous rounds.
        all.assert_holds(&program.client());
        let changes = Changes::at(&program.client(), 4);
        let goal = changes.count() + 60;
        let deadline = Instant::now() + Duration::from_secs(60);
        while changes.count() < goal {
            assert!(Instant::now() < deadline, "nothing is acknowledged");
            thread::sleep(Duration::from_millis(1));
        }
        program.signal("KILL");
        program.wait();
        all.add(changes.stop());
    }
    let program = Program::start(folder, settings);
    all.assert_holds(&program.client());
    await_ready(&program.client());
    eprintln!("{} created, {} revoked", all.good.len(), all.revoked.len());
    drop(program.stop());
    all
}

#[test]
fn acknowledged_changes_survive_a_kill_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/latchkey.db", folder.path().display());
    let settings = [&QUICK[..], &[("DATABASE_URL", &url)]].concat();
    assert_acknowledged_changes_survive(&settings, folder.path());
    assert_eq!(
        query(
            &url,
            "SELECT integrity_check AS text FROM pragma_integrity_check"
        ),
        ["ok"]
    );
    let orphans = "SELECT \"table\" AS text FROM pragma_foreign_key_check";
    assert!(query(&url, orphans).is_empty());
}

#[test]
fn acknowledged_changes_survive_a_kill_on_postgres() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let settings = [&QUICK[..], &[("DATABASE_URL", &database.url), secret]].concat();
    assert_acknowledged_changes_survive(&settings, folder.path());
}
