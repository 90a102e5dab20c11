//! Start of the program: the first one, concurrent ones, and starts on an existing database.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Program, postgres,
    program::{QUICK, assert_fails_with_one_line, run, run_in},
};

#[test]
fn first_start_needs_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &[("PORT", "0")]);
    assert!(program.base.starts_with("http://127.0.0.1:"));
    let ada = program.client().sign_up("ada@example.com");
    let data = folder.path().join("data");
    for file in ["latchkey.db", "latchkey.db.jwt-secret"] {
        let mode = fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let hash = {
        use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, sql_types::Text};
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            password_hash: String,
        }
        let file = data.join("latchkey.db");
        let mut conn = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        let row: Row = diesel::sql_query("SELECT password_hash FROM users")
            .get_result(&mut conn)
            .unwrap();
        row.password_hash
    };
    assert!(hash.starts_with("$2b$12$"), "the default bcrypt cost");
    drop(program.stop());

    // The next start has the same secret and the same accounts.
    let program = Program::start(folder.path(), &QUICK);
    let ada = crate::support::Client::new(&program.base)
        .with("authorization", &ada.header("authorization"));
    assert_eq!(ada.get("/auth/me").status, 200);
}

#[test]
fn only_one_of_eight_concurrent_starts_on_an_embedded_database_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let serve = || Program::command(folder.path(), &[], &QUICK);
    let mut started: Vec<_> = (0..8)
        .map(|_| {
            let mut command = serve();
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while started.len() > 1 {
        assert!(Instant::now() < deadline, "more than one keeps running");
        started.retain_mut(|child| child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(10));
    }
    assert_fails_with_one_line(
        &serve().output().unwrap(),
        1,
        &["latchkey.db", "another process"],
    );
    let mut last = started.pop().unwrap();
    last.kill().unwrap();
    last.wait().unwrap();
    // The lock must not outlive the process that held it.
    Program::start(folder.path(), &QUICK)
        .client()
        .sign_up("ada@example.com");
}

#[test]
fn eight_concurrent_starts_on_an_empty_postgres_all_succeed() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut settings = QUICK.to_vec();
    settings.push(("DATABASE_URL", &database.url));
    settings.push(("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"));
    start_eight(folder.path(), &settings);
}

fn start_eight(folder: &std::path::Path, settings: &[(&str, &str)]) {
    let programs: Vec<Program> = thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Program::start(folder, settings)))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    let ada = programs[0].client().sign_up("ada@example.com");
    let key = ada.create_key();
    for program in &programs {
        // All instances share one secret and one database.
        let client = program
            .client()
            .with("authorization", &ada.header("authorization"));
        assert_eq!(client.get("/auth/me").status, 200);
        let caller = program.client().with_key(key["api_key"].as_str().unwrap());
        assert_eq!(caller.get("/protected").status, 200);
    }
    ada.delete(&format!("/api-keys/{}", key["id"].as_str().unwrap()));
    for program in &programs {
        let caller = program.client().with_key(key["api_key"].as_str().unwrap());
        caller
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }
}

#[test]
fn migrate_command_only_migrates_and_is_idempotent() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_in(folder.path(), &["migrate"], &[]);
    assert!(first.status.success(), "{first:?}");
    assert!(String::from_utf8_lossy(&first.stdout).contains("applied a database migration"));
    assert!(folder.path().join("data/latchkey.db").exists());
    let second = run_in(folder.path(), &["migrate"], &[]);
    assert!(second.status.success());
    assert!(!String::from_utf8_lossy(&second.stdout).contains("applied a database migration"));
    Program::start(folder.path(), &QUICK)
        .client()
        .sign_up("ada@example.com");
}

#[test]
fn postgres_over_tls_requires_a_valid_certificate() {
    let Some((url, certificate)) = postgres::with_tls() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let root = certificate.display();
    let start = |parameters: &str| {
        let url = format!("{url}?{parameters}");
        let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
        run_in(
            folder.path(),
            &["migrate"],
            &[("DATABASE_URL", &url), secret],
        )
    };
    for parameters in [
        "sslmode=require",
        &format!("sslmode=verify-full&sslrootcert={root}"),
    ] {
        let output = start(parameters);
        assert!(output.status.success(), "{parameters}: {output:?}");
    }
    // No authority that this machine trusts has signed the certificate.
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    assert_fails_with_one_line(
        &start(&format!("sslmode=verify-full&sslrootcert={bundle}")),
        1,
        &["PostgreSQL"],
    );
    // The certificate was not issued for this host name.
    let by_address = url.replace("localhost", "127.0.0.1");
    let mismatched_url = format!("{by_address}?sslmode=verify-full&sslrootcert={root}");
    let output = run_in(
        folder.path(),
        &["migrate"],
        &[("DATABASE_URL", &mismatched_url)],
    );
    assert_fails_with_one_line(&output, 1, &["certificate"]);
}

/// SQLite's lock tells other processes that the file is in use. Without it, the last other process that closes the
/// file, for example a backup tool, removes the write-ahead log under the server. Every change that the server
/// acknowledges afterwards would be lost.
#[test]
#[cfg(target_os = "linux")]
fn embedded_database_stays_locked_against_other_processes_while_served() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let ada = program.client().sign_up("ada@example.com");
    thread::scope(|scope| {
        // Concurrent requests make the pool open more than one connection.
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(ada.get("/api-keys").status, 200);
                }
            });
        }
    });
    let file = fs::metadata(folder.path().join("data/latchkey.db")).unwrap();
    let (pid, inode) = (program.pid().to_string(), file.ino().to_string());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let held = locks.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.contains(&pid.as_str()) && line.contains(&format!(":{inode} "))
    });
    assert!(held, "no lock of {pid} on {inode} in {locks}");
}

#[test]
fn server_runs_on_migrated_postgres_without_permission_to_create_tables() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let owner = ("DATABASE_URL", database.url.as_str());
    assert!(
        run_in(folder.path(), &["migrate"], &[owner])
            .status
            .success()
    );
    let role = database.create_role_without_ddl_permissions();
    let url = format!("{}?options=-c%20role%3D{role}", database.url);
    let settings = [
        ("PORT", "0"),
        ("BCRYPT_COST", "4"),
        secret,
        ("DATABASE_URL", &url),
    ];
    Program::start(folder.path(), &settings)
        .client()
        .sign_up("ada@example.com");
}

#[test]
fn postgres_database_with_another_encoding_than_utf8_is_rejected() {
    let Some(database) =
        postgres::fresh_database_with("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    else {
        return;
    };
    let output = run(&["migrate"], &[("DATABASE_URL", &database.url)]);
    assert_fails_with_one_line(&output, 1, &["LATIN1", "UTF8"]);
}
