//! Size of the write-ahead log (`-wal`) of the embedded database: it shrinks when no reader needs it any more.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};

use crate::{
    keys::full_key,
    support::{Program, program::QUICK},
};

const MEGABYTE: u64 = 1024 * 1024;
/// Limit that docs/operations.md states.
const LIMIT: u64 = 16 * MEGABYTE;

#[test]
fn write_ahead_log_shrinks_after_a_long_read_has_ended() {
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
    // The part that the reader may need is kept.
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
        "the log: {} MiB, {} MiB {:?} after the end of the reader",
        before / MEGABYTE,
        size() / MEGABYTE,
        ended.elapsed()
    );
    let key = ada.create_key();
    let caller = program.client().with_key(full_key(&key));
    assert_eq!(caller.get("/protected").status, 200);
    // After a shutdown, the database is complete without the log.
    drop(reader);
    program.stop();
    assert_eq!(fs::metadata(&log).map_or(0, |log| log.len()), 0);
}
