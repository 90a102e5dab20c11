//! Settings of PostgreSQL, its databases and its URLs that the service must support, or reject by name.

use std::{thread, time::Duration};

use diesel::{Connection as _, PgConnection, connection::SimpleConnection as _};

use super::support::{
    Program, path_of, postgres,
    program::{self, QUICK, assert_fails_with_one_line, run_in},
};

const SECRET: (&str, &str) = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");

/// Changes a setting for new sessions of the database, and ends the existing sessions.
fn set(database: &postgres::Database, setting: &str) {
    let name = database.url.rsplit('/').next().unwrap();
    let name = name.split('?').next().unwrap();
    let mut conn = PgConnection::establish(&database.url).unwrap();
    for statement in [
        "SET default_transaction_read_only = off".to_owned(),
        format!("ALTER DATABASE {name} {setting}"),
    ] {
        conn.batch_execute(&statement).unwrap();
    }
    conn.batch_execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .unwrap();
}

#[test]
fn read_only_database_allows_checks_and_reads_and_rejects_changes() {
    for lease in ["2", "0"] {
        let Some(database) = postgres::fresh_database() else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            SECRET,
            ("DATABASE_URL", database.url.as_str()),
            ("CACHE_LEASE_SECONDS", lease),
        ];
        let program = Program::start(folder.path(), &[&QUICK[..], &settings].concat());
        let ada = program.client().sign_up("ada@example.com");
        let key = ada.create_key();
        let caller = program.client().with_key(key["api_key"].as_str().unwrap());
        assert_eq!(caller.get("/protected").status, 200);

        set(&database, "SET default_transaction_read_only = on");
        // Longer than a lease: after that, each check queries the database.
        for _ in 0..30 {
            assert_eq!(caller.get("/protected").status, 200);
            assert_eq!(ada.get("/api-keys").status, 200);
            thread::sleep(Duration::from_millis(100));
        }
        ada.post("/api-keys").assert_problem(503, "unavailable");
        ada.delete(&path_of(&key))
            .assert_problem(503, "unavailable");
        assert_eq!(caller.get("/protected").status, 200);

        set(&database, "RESET default_transaction_read_only");
        let created = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(50));
            ada.post("/api-keys").status == 201
        });
        assert!(created);
        assert_eq!(ada.delete(&path_of(&key)).status, 200);
        assert_eq!(caller.get("/protected").status, 401);
    }
}

#[test]
fn database_without_standard_conforming_strings_is_migrated_and_served() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    set(&database, "SET standard_conforming_strings = off");
    let folder = tempfile::tempdir().unwrap();
    let settings = [SECRET, ("DATABASE_URL", database.url.as_str())];
    let program = Program::start(folder.path(), &[&QUICK[..], &settings].concat());
    let ada = program.client().sign_up("ada@example.com");
    ada.create_key();
    assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 1);
}

#[test]
fn unknown_connection_parameter_is_named_in_the_error() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let separator = if database.url.contains('?') { '&' } else { '?' };
    for (parameter, named) in [
        ("schema=public", "`schema`"),
        ("pgbouncer=true", "`pgbouncer`"),
        ("currentSchema=x", "`currentSchema`"),
    ] {
        let url = format!("{}{separator}{parameter}", database.url);
        let settings = [&QUICK[..], &[SECRET, ("DATABASE_URL", &url)]].concat();
        for command in [&["serve"][..], &["migrate"]] {
            let output = program::run(command, &settings);
            assert_fails_with_one_line(&output, 2, &["DATABASE_URL", named, "leave it out"]);
        }
    }
    // The text after an ampersand in a password is not printed.
    let url = "postgres://localhost/x?password=hunt&er22=x";
    let output = program::run(&["migrate"], &[("DATABASE_URL", url)]);
    assert_fails_with_one_line(&output, 2, &["DATABASE_URL"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("er22"));
}

#[test]
fn start_that_waits_for_the_migrations_of_another_process_logs_it() {
    // Longer than the time after which a wait is logged.
    let wait = Duration::from_millis(2500);
    let folder = tempfile::tempdir().unwrap();
    let sqlite = [("DATABASE_URL", "sqlite://latchkey.db")];
    let lock = std::fs::File::create(folder.path().join("latchkey.db.lock")).unwrap();
    lock.lock().unwrap();
    let output = thread::scope(|scope| {
        let migrating = scope.spawn(|| run_in(folder.path(), &["migrate"], &sqlite));
        thread::sleep(wait);
        lock.unlock().unwrap();
        migrating.join().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(
        log.contains("still waiting for another process to release"),
        "{log}"
    );

    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let mut other = PgConnection::establish(&database.url).unwrap();
    other
        .batch_execute("SELECT pg_advisory_lock(x'6c617463686b6579'::bigint)")
        .unwrap();
    let url = [("DATABASE_URL", database.url.as_str())];
    let output = thread::scope(|scope| {
        let migrating = scope.spawn(|| run_in(folder.path(), &["migrate"], &url));
        thread::sleep(wait);
        drop(other);
        migrating.join().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(
        log.contains("still waiting for another instance to finish"),
        "{log}"
    );
}
