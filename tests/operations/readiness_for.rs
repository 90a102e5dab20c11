//! Readiness proves that changes are possible, and with `?for=checks` that keys can be checked.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    keys::{await_ready, full_key},
    support::{
        Client, Program, TestServer, path_of, postgres,
        program::{QUICK, run},
        server::execute_on,
        skip,
    },
};

const CHECKS: &str = "/health/ready?for=checks";

#[track_caller]
fn missing(client: &Client) -> String {
    let problem = client
        .get("/health/ready")
        .assert_problem(503, "unavailable");
    problem["detail"].as_str().unwrap().to_owned()
}

#[track_caller]
fn await_not_ready(client: &Client) -> String {
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.get("/health/ready").status == 200 {
        assert!(Instant::now() < deadline, "the instance stays ready");
        thread::sleep(Duration::from_millis(20));
    }
    missing(client)
}

fn status_of(client: &Client, key: &Value) -> u16 {
    client.with_key(full_key(key)).get("/protected").status
}

fn assert_read_only_postgres_is_not_ready(lease: &str) {
    let Some(database) = postgres::private_server() else {
        return;
    };
    // With this attribute, libpq does not reject a read-only primary.
    let url = format!("{}?target_session_attrs=primary", database.url);
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL", &*url),
        ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"),
        ("CACHE_LEASE_SECONDS", lease),
    ];
    let program = Program::start(folder.path(), &[&QUICK[..], &settings].concat());
    let client = program.client();
    let ada = client.sign_up("ada@example.com");
    let (cached, other) = (ada.create_key(), ada.create_key());
    assert_eq!(status_of(&client, &cached), 200);
    await_ready(&client);

    let configure = |on: &str| {
        execute_on(
            &database.url,
            &format!("ALTER SYSTEM SET default_transaction_read_only = {on}"),
        );
        execute_on(&database.url, "SELECT pg_reload_conf()");
    };
    configure("on");
    let detail = await_not_ready(&client);
    assert!(detail.contains("rejects writes"), "{detail}");
    assert!(detail.contains("read-only"), "{detail}");
    ada.delete(&path_of(&cached))
        .assert_problem(503, "unavailable");
    // Longer than one lease.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(4) {
        assert_eq!(client.get(CHECKS).status, 200);
        assert_eq!(status_of(&client, &cached), 200);
        assert_eq!(status_of(&client, &other), 200);
        assert!(missing(&client).contains("read-only"));
        thread::sleep(Duration::from_millis(100));
    }
    // Without the option, the session would start read-only and could not change the setting.
    execute_on(
        &format!(
            "{}?options=-cdefault_transaction_read_only%3Doff",
            database.url
        ),
        "ALTER SYSTEM RESET default_transaction_read_only",
    );
    execute_on(&database.url, "SELECT pg_reload_conf()");
    let since = Instant::now();
    await_ready(&client);
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(ada.delete(&path_of(&cached)).status, 200);
    assert_eq!(status_of(&client, &cached), 401);
}

#[test]
fn read_only_postgres_is_ready_for_checks_alone() {
    assert_read_only_postgres_is_not_ready("2");
}

#[test]
fn read_only_postgres_is_ready_for_checks_alone_without_a_lease() {
    assert_read_only_postgres_is_not_ready("0");
}

#[test]
fn instance_is_not_ready_while_the_disk_fails_writes() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        skip("prlimit, of util-linux, is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // With XFSZ ignored, a write past the limit fails and does not end the process.
    command
        .args(["-c", r#"trap "" XFSZ; exec "$0""#])
        .arg(env!("CARGO_BIN_EXE_latchkey"))
        .current_dir(folder.path())
        .env_clear()
        .envs(QUICK);
    let program = Program::listening(&mut command);
    let client = program.client();
    let ada = client.sign_up("ada@example.com");
    let key = ada.create_key();
    await_ready(&client);
    let limit = |size: &str| {
        let pid = program.pid().to_string();
        let limited = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={size}:unlimited")])
            .status();
        assert!(limited.is_ok_and(|limited| limited.success()));
    };
    limit("0");
    let detail = await_not_ready(&client);
    assert!(detail.contains("rejects writes"), "{detail}");
    ada.post("/api-keys").assert_problem(503, "unavailable");
    assert_eq!(client.get(CHECKS).status, 200);
    assert_eq!(status_of(&client, &key), 200);
    limit("unlimited");
    let since = Instant::now();
    await_ready(&client);
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(ada.post("/api-keys").status, 201);
}

#[test]
fn readiness_for_something_unknown_is_a_validation_error() {
    let server = TestServer::on_sqlite(|_| {});
    let client = server.anonymous();
    for (query, pointer) in [
        ("for=everything", "?for"),
        ("for=", "?for"),
        ("for=checks&for=checks", "?for"),
        ("four=checks", "?four"),
    ] {
        let reply = client.get(&format!("/health/ready?{query}"));
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    for path in ["/health/ready", "/health/ready?", CHECKS] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
}

#[test]
fn readiness_probes_write_at_most_once_per_second() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [&QUICK[..], &[("CACHE_LEASE_SECONDS", "0")]].concat();
    let program = Program::start(folder.path(), &settings);
    let client = program.client();
    await_ready(&client);
    let log = folder.path().join("data/latchkey.db-wal");
    let size = || std::fs::metadata(&log).unwrap().len();
    let (before, since) = (size(), Instant::now());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while since.elapsed() < Duration::from_millis(3500) {
                    assert_eq!(client.get("/health/ready").status, 200);
                }
            });
        }
    });
    // One commit writes a few pages of 4 KiB.
    let written = size() - before;
    assert!((3 * 4096..5 * 4 * 4200).contains(&written), "{written}");
}

#[test]
fn health_command_accepts_for_checks() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let port = program.base.rsplit(':').next().unwrap();
    let output = run(&["health", "--for", "checks"], &[("PORT", port)]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(CHECKS), "{printed}");
    let output = run(&["health", "--for", "checks", "--live"], &[("PORT", port)]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
