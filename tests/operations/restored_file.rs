//! A backup is moved into the place of the embedded database while it is served, or after a crash.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    thread,
    time::{Duration, Instant},
};

use crate::{
    embedded_file::{Cached, Service, assert_logged_once, names_in},
    keys::{Acknowledged, Changes, full_key},
    support::{
        Program,
        program::{assert_fails_with_one_line, run_in},
    },
};

/// Creates a backup, changes the database under load, moves the backup into its place, and then calls `end`.
fn restore_under_load(end: impl Fn(Program, &Cached)) {
    let service = Service::new();
    let program = service.start();
    let cached = Cached::at(&program);
    let before = Acknowledged {
        good: (0..50).map(|_| cached.owner.create_key()).collect(),
        revoked: Vec::new(),
    };
    let backup = service.back_up("backup.db");
    let untouched = fs::read(&backup).unwrap();
    let copy = service.home.path().join("copy.db");
    fs::copy(&backup, &copy).unwrap();
    let changes = Changes::at(&program.client(), 4);
    while changes.count() < 100 {
        thread::sleep(Duration::from_millis(5));
    }
    fs::rename(&copy, service.file("")).unwrap();
    end(program, &cached);
    let since = changes.stop();
    assert!(!since.good.is_empty());
    // The file was not modified.
    assert_eq!(fs::read(service.file("")).unwrap(), untouched);
    let program = service.start();
    before.assert_holds(&program.client());
    let caller = program.client().with_key(full_key(&cached.key));
    assert_eq!(caller.get("/protected").status, 200);
    for key in &since.good {
        let caller = program.client().with_key(full_key(key));
        assert_eq!(caller.get("/protected").status, 401);
    }
    program.stop();
    service.assert_whole();
}

#[test]
fn backup_moved_into_place_of_a_served_database_is_not_modified() {
    restore_under_load(|program, cached| {
        let missing = cached.await_loss(Instant::now());
        assert!(missing.contains("another file"), "{missing}");
        // The state persists, because connections and caches belong to the other database.
        thread::sleep(Duration::from_secs(1));
        cached.assert_nothing_served();
        assert_logged_once(program, &["latchkey.db", "another file", "restart"]);
    });
}

#[test]
fn backup_moved_into_place_before_a_kill_is_not_modified() {
    restore_under_load(|program, _| drop(program));
}

#[test]
fn backup_moved_into_place_during_an_outage_ignores_the_old_log() {
    let service = Service::new();
    let program = service.start();
    let cached = Cached::at(&program);
    let backup = service.back_up("backup.db");
    let later = cached.owner.create_key();
    drop(program);
    assert!(fs::metadata(service.file("-wal")).unwrap().size() > 0);
    fs::rename(&backup, service.file("")).unwrap();
    // The first process to open the file sets the old log aside, here a command.
    let output = run_in(
        service.home.path(),
        &["admin", "grant", "ada@example.com"],
        &service.settings(),
    );
    assert!(output.status.success(), "{output:?}");
    let program = service.start();
    let caller = program.client().with_key(full_key(&later));
    assert_eq!(caller.get("/protected").status, 401);
    let caller = program.client().with_key(full_key(&cached.key));
    assert_eq!(caller.get("/protected").status, 200);
    program.stop();
    service.assert_whole();
    // The old log is kept under another name.
    let set_aside = |name: &String| name.contains("-wal.");
    assert!(names_in(&service.folder).iter().any(set_aside));
}

#[test]
fn commands_reject_a_replaced_database_file_that_is_served() {
    let service = Service::new();
    let program = service.start();
    Cached::at(&program);
    let backup = service.back_up("backup.db");
    let untouched = fs::read(&backup).unwrap();
    program.signal("STOP");
    fs::rename(&backup, service.file("")).unwrap();
    let other = service.home.path().join("other.db");
    let assert_all_refused = || {
        for arguments in [
            vec!["admin", "grant", "ada@example.com"],
            vec!["backup", other.to_str().unwrap()],
        ] {
            let output = run_in(service.home.path(), &arguments, &service.settings());
            assert_fails_with_one_line(&output, 1, &["latchkey.db", "replaced", "stop"]);
        }
    };
    assert_all_refused();
    program.signal("CONT");
    let deadline = Instant::now() + Duration::from_secs(5);
    while service.file("-wal").exists() || service.file("-shm").exists() {
        assert!(Instant::now() < deadline, "the old log is still there");
        thread::sleep(Duration::from_millis(20));
    }
    assert_all_refused();
    drop(program);
    assert_eq!(fs::read(service.file("")).unwrap(), untouched);
}
