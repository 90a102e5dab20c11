//! Usage counts of keys when the process is killed.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    repetitions::repetitions,
    support::{Program, path_of, postgres, program::QUICK, server::query},
};

/// Returns the number of valid checks that the database contains.
pub fn counted(database_url: &str) -> usize {
    let hours = "SELECT CAST(count AS TEXT) AS text FROM usage_hours
                 WHERE outcome = 'valid' AND subject_id =";
    let service = if database_url.starts_with("sqlite://") {
        "x'00000000000000000000000000000000'"
    } else {
        "decode('00000000000000000000000000000000', 'hex')"
    };
    let counts = query(database_url, &format!("{hours} {service}"));
    counts
        .iter()
        .map(|count| count.parse::<usize>().unwrap())
        .sum()
}

fn assert_reported_counts_survive(folder: &Path, database_url: &str) {
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let settings = [&QUICK[..], &[("DATABASE_URL", database_url), secret]].concat();
    let mut program = Program::start(folder, &settings);
    let mut ada = program.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let (mut least, mut most) = (0, 0);
    for _ in 0..repetitions(3, 20) {
        let caller = program.client().with_key(key["api_key"].as_str().unwrap());
        for _ in 0..50 {
            assert_eq!(caller.get("/protected").status, 200);
            most += 1;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let usage = ada.get(&format!("{}/usage", path_of(&key))).json();
            let total = usage["total"].as_u64().unwrap();
            assert!(total <= most, "{usage}");
            if total >= least + 50 {
                least = total;
                break;
            }
            assert!(Instant::now() < deadline, "{usage}");
            thread::sleep(Duration::from_millis(10));
        }
        for _ in 0..10 {
            assert_eq!(caller.get("/protected").status, 200);
            most += 1;
        }
        program.signal("KILL");
        program.wait();
        program = Program::start(folder, &settings);
        ada = program
            .client()
            .log_in("ada@example.com", crate::support::PASSWORD);
        let usage = ada.get(&format!("{}/usage", path_of(&key))).json();
        let total = usage["total"].as_u64().unwrap();
        assert!((least..=most).contains(&total), "{total} of {most}");
        least = total;
    }
    drop(program.stop());
    assert_eq!(counted(database_url), usize::try_from(least).unwrap());
}

#[test]
fn reported_usage_counts_survive_a_kill_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/latchkey.db", folder.path().display());
    assert_reported_counts_survive(folder.path(), &url);
}

#[test]
fn reported_usage_counts_survive_a_kill_on_postgres() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    assert_reported_counts_survive(folder.path(), &database.url);
}
