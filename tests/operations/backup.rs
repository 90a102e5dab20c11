//! `latchkey backup`, while the service runs and without it.

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
    program::{QUICK, assert_fails_with_one_line, run_in},
    server::query,
};

const SECRET: (&str, &str) = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");

#[test]
fn backup_under_load_contains_everything_acknowledged_before_it_began() {
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
            assert!(Instant::now() < deadline, "no keys are created");
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
            assert!(printed.contains("is complete"), "{printed}");
            // Writers did not wait for the backup, and continue.
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
        let owner = Client::new(&program.base).with("authorization", &token);
        assert_eq!(owner.get("/auth/me").status, 200);
        owner.create_key();
    }
}

#[test]
fn backup_omits_the_jwt_secret_and_prints_its_path() {
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
fn failed_backup_overwrites_nothing_and_leaves_no_partial_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), &["backup", "copy.db"], &[]);
    assert_fails_with_one_line(&output, 1, &["data/latchkey.db", "DATABASE_URL"]);
    assert!(
        !folder.path().join("data").exists(),
        "the folder is not created"
    );

    let migrated = run_in(folder.path(), &["migrate"], &[]);
    assert!(migrated.status.success());
    fs::write(folder.path().join("taken"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
    for file in ["taken", "link", "data", "data/latchkey.db"] {
        let output = run_in(folder.path(), &["backup", file], &[]);
        assert_fails_with_one_line(&output, 1, &[file, "already exists"]);
    }
    assert_eq!(fs::read(folder.path().join("taken")).unwrap(), b"mine");
    let output = run_in(folder.path(), &["backup", "no/such/folder/copy.db"], &[]);
    assert_fails_with_one_line(&output, 1, &["no/such/folder/copy.db"]);
    assert_fails_with_one_line(&run_in(folder.path(), &["backup"], &[]), 2, &["FILE"]);

    // A name that SQLite would interpret as a URI.
    let uri_like = run_in(folder.path(), &["backup", "file:copy?mode=memory"], &[]);
    assert!(uri_like.status.success(), "{uri_like:?}");
    assert!(folder.path().join("file:copy?mode=memory").exists());

    let garbage = folder.path().join("garbage.db");
    fs::write(&garbage, [b'x'; 8192]).unwrap();
    let url = format!("sqlite://{}", garbage.display());
    let output = run_in(
        folder.path(),
        &["backup", "x.db"],
        &[("DATABASE_URL", &url)],
    );
    assert_fails_with_one_line(&output, 1, &["not a database"]);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("x.db") || name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn backup_of_postgres_is_rejected_with_a_hint_to_pg_dump() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("DATABASE_URL", "postgres://app:hunter22@localhost/x")];
    let output = run_in(folder.path(), &["backup", "copy.db"], &settings);
    assert_fails_with_one_line(&output, 2, &["pg_dump", "DATABASE_URL"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
}
