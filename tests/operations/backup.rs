//! `latchkey backup`, beside a server that is at work.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Client, Program,
    program::{QUICK, assert_refused, run_in},
    server::query,
};

const SECRET: (&str, &str) = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");

#[test]
fn a_backup_under_load_holds_all_that_was_acknowledged_before_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = QUICK.to_vec();
    settings.push(SECRET);
    let program = Program::start(folder.path(), &settings);
    let ada = program.client().sign_up("ada@example.com");
    let acknowledged = Mutex::new(Vec::<String>::new());
    let stop = AtomicBool::new(false);
    let await_more = |than: usize| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while acknowledged.lock().unwrap().len() <= than {
            assert!(Instant::now() < deadline, "no keys are made");
            thread::sleep(Duration::from_millis(2));
        }
    };
    let backups = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let key = ada.create_key()["api_key"].as_str().unwrap().to_owned();
                    acknowledged.lock().unwrap().push(key);
                }
            });
        }
        await_more(100);
        let backups = ["first.db", "second.db"].map(|file| {
            let before = acknowledged.lock().unwrap().clone();
            let output = run_in(folder.path(), &["backup", file], &[]);
            let during = acknowledged.lock().unwrap().len() - before.len();
            assert!(output.status.success(), "{output:?}");
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(printed.contains("is whole"), "{printed}");
            // Whoever writes was not held up, and goes on.
            await_more(before.len() + during + 10);
            (file, before, during)
        });
        stop.store(true, SeqCst);
        backups
    });
    assert!(backups.iter().any(|(_, _, during)| *during > 0), "no load");
    program.stop();
    let files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        files.iter().all(|name| !name.contains("partial")),
        "{files:?}"
    );

    for (file, before, _) in backups {
        let path = folder.path().join(file);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let restored = tempfile::tempdir().unwrap();
        fs::create_dir(restored.path().join("data")).unwrap();
        let database = restored.path().join("data/latchkey.db");
        fs::copy(&path, &database).unwrap();
        let url = format!("sqlite://{}", database.display());
        let integrity = "SELECT integrity_check AS text FROM pragma_integrity_check";
        assert_eq!(query(&url, integrity), ["ok"]);

        let program = Program::start(restored.path(), &settings);
        for key in &before {
            let caller = program.client().with_key(key);
            assert_eq!(caller.get("/protected").status, 200, "{key} is lost");
        }
        let token = ada.header("authorization");
        let there = Client::new(&program.base).with("authorization", &token);
        assert_eq!(there.get("/auth/me").status, 200);
        there.create_key();
    }
}

#[test]
fn the_secret_beside_the_database_is_told_of_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    program.client().sign_up("ada@example.com");
    let output = run_in(folder.path(), &["backup", "copy.db"], &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("latchkey.db.jwt-secret"), "{printed}");
    assert!(printed.contains("1  users\n"), "{printed}");
    assert!(!folder.path().join("copy.db.jwt-secret").exists());
}

#[test]
fn nothing_is_overwritten_and_nothing_half_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run_in(folder.path(), &["backup", "copy.db"], &[]);
    assert_refused(&refused, 1, &["data/latchkey.db", "DATABASE_URL"]);
    assert!(!folder.path().join("data").exists(), "it is not made");

    let migrated = run_in(folder.path(), &["migrate"], &[]);
    assert!(migrated.status.success());
    fs::write(folder.path().join("taken"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
    for file in ["taken", "link", "data", "data/latchkey.db"] {
        let refused = run_in(folder.path(), &["backup", file], &[]);
        assert_refused(&refused, 1, &[file, "there already"]);
    }
    assert_eq!(fs::read(folder.path().join("taken")).unwrap(), b"mine");
    let refused = run_in(folder.path(), &["backup", "no/such/folder/copy.db"], &[]);
    assert_refused(&refused, 1, &["no/such/folder/copy.db"]);
    assert_refused(&run_in(folder.path(), &["backup"], &[]), 2, &["FILE"]);

    // A name that SQLite would read as something else.
    let odd = run_in(folder.path(), &["backup", "file:copy?mode=memory"], &[]);
    assert!(odd.status.success(), "{odd:?}");
    assert!(folder.path().join("file:copy?mode=memory").exists());

    let garbage = folder.path().join("garbage.db");
    fs::write(&garbage, [b'x'; 8192]).unwrap();
    let url = format!("sqlite://{}", garbage.display());
    let refused = run_in(
        folder.path(),
        &["backup", "x.db"],
        &[("DATABASE_URL", &url)],
    );
    assert_refused(&refused, 1, &["not a database"]);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("x.db") || name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn postgres_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("DATABASE_URL", "postgres://app:hunter22@localhost/x")];
    let refused = run_in(folder.path(), &["backup", "copy.db"], &settings);
    assert_refused(&refused, 2, &["pg_dump", "DATABASE_URL"]);
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("hunter22"));
}
