//! The embedded database's log (`-wal`) shrinks when nobody needs it any more.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};

use crate::{
    keys::text_of,
    support::{Program, program::QUICK},
};

const MEGABYTE: u64 = 1024 * 1024;
/// As docs/operations.md has it.
const LIMIT: u64 = 16 * MEGABYTE;

#[test]
fn log_shrinks_by_itself_after_a_long_reader_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let ada = program.client().sign_up("ada@example.com");
    let file = folder.path().join("data/latchkey.db");
    let log = folder.path().join("data/latchkey.db-wal");
    let size = || fs::metadata(&log).unwrap().len();

    let mut reader = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let reads = reader.batch_execute("BEGIN; SELECT count(*) FROM users");
    reads.unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let metadata = serde_json::json!({"metadata": {"text": "x".repeat(3000)}});
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while size() < 2 * LIMIT {
                    assert!(Instant::now() < deadline, "{}", size());
                    ada.create_key_with(&metadata);
                }
            });
        }
    });
    // What the reader may need stays.
    thread::sleep(Duration::from_secs(2));
    let before = size();
    assert!(before >= 2 * LIMIT, "{before}");
    reader.batch_execute("COMMIT").unwrap();
    let ended = Instant::now();
    while size() > LIMIT {
        assert!(ended.elapsed() < Duration::from_secs(10), "{}", size());
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!(
        "the log: {} MiB, {} MiB {:?} after the reader's end",
        before / MEGABYTE,
        size() / MEGABYTE,
        ended.elapsed()
    );
    let key = ada.create_key();
    let caller = program.client().with_key(text_of(&key));
    assert_eq!(caller.get("/protected").status, 200);
    // Stopped in order, the database is whole without it.
    drop(reader);
    program.stop();
    assert_eq!(fs::metadata(&log).map_or(0, |log| log.len()), 0);
}
