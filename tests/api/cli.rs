//! The command line: first start, settings, the order to stop.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{PASSWORD, Program, postgres};

const QUICK: [(&str, &str); 2] = [("PORT", "0"), ("BCRYPT_COST", "4")];

fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), arguments, settings)
}

fn run_in(folder: &std::path::Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut child = Program::command(folder, arguments, settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    // It has ended, unless it serves where it should not.
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

/// Asserts that it stopped with one line on standard error that holds all of `parts`.
#[track_caller]
fn assert_refused(output: &Output, exit_code: i32, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "no {part} in: {error}");
    }
}

#[test]
fn the_first_start_needs_no_configuration() {
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
    assert!(hash.starts_with("$2b$12$"), "the default cost");
    drop(program.stop());

    // The next start has the same secret and the same accounts.
    let program = Program::start(folder.path(), &QUICK);
    let ada = crate::support::Client::new(&program.base)
        .with("authorization", &ada.header("authorization"));
    assert_eq!(ada.get("/auth/me").status, 200);
}

#[test]
fn the_default_port_is_8000() {
    let help = run(&["--help"], &[]);
    let help = String::from_utf8(help.stdout).unwrap();
    let port = help
        .split("\n  PORT\n")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    assert!(port.ends_with("[default: 8000]"), "{port}");
}

#[test]
fn help_lists_every_setting() {
    let output = run(
        &["--help"],
        &[(
            "JWT_SECRET",
            "not-to-be-shown-not-to-be-shown-not-to-be-shown",
        )],
    );
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for setting in [
        "HOST",
        "PORT",
        "DATABASE_URL",
        "DATABASE_POOL_SIZE",
        "JWT_SECRET",
        "JWT_SECRET_PREVIOUS",
        "JWT_TTL_SECONDS",
        "BCRYPT_COST",
        "SIGNUP",
        "WORKERS",
        "LOG",
        "LOG_FORMAT",
    ] {
        assert!(
            help.contains(&format!("\n  {setting}\n")),
            "no {setting} in {help}"
        );
    }
    for command in ["serve", "migrate", "openapi"] {
        assert!(
            help.contains(&format!("\n  {command}")),
            "no {command} in {help}"
        );
    }
    for arguments in [["serve", "--help"], ["migrate", "--help"]] {
        let output = run(
            &arguments,
            &[(
                "JWT_SECRET",
                "not-to-be-shown-not-to-be-shown-not-to-be-shown",
            )],
        );
        assert!(
            !String::from_utf8(output.stdout)
                .unwrap()
                .contains("not-to-be-shown")
        );
    }
    assert!(!help.contains("not-to-be-shown"));
}

#[test]
fn a_bad_setting_stops_the_start_with_one_line_that_names_it() {
    for (name, value, remedy) in [
        ("PORT", "http", "from 0 to 65535"),
        ("PORT", "65536", "from 0 to 65535"),
        ("PORT", "", "from 0 to 65535"),
        ("HOST", "no such host", "127.0.0.1"),
        (
            "DATABASE_URL",
            "mysql://root:hunter22@localhost/x",
            "postgres://",
        ),
        ("DATABASE_URL", "sqlite://", "sqlite://path"),
        ("DATABASE_URL", "sqlite://:memory:", "file"),
        ("DATABASE_URL", "data/latchkey.db", "sqlite://path"),
        (
            "DATABASE_URL",
            "postgres://app:hunter%zz22@localhost/x",
            "percent-encode",
        ),
        (
            "DATABASE_URL",
            "postgres://app:hunter22/@localhost/x",
            "percent-encode",
        ),
        (
            "DATABASE_URL",
            "postgres://app:pass@hunter22@localhost/x",
            "percent-encode",
        ),
        ("DATABASE_POOL_SIZE", "0", "from 1 to 1000"),
        ("JWT_SECRET", "hunter22", "32"),
        ("JWT_SECRET", "", "32"),
        ("JWT_SECRET_PREVIOUS", "hunter22", "32"),
        ("JWT_TTL_SECONDS", "0", "from 1 to 2592000"),
        ("JWT_TTL_SECONDS", "an hour", "from 1 to 2592000"),
        ("BCRYPT_COST", "3", "from 4 to 16"),
        ("BCRYPT_COST", "17", "from 4 to 16"),
        ("SIGNUP", "maybe", "open or closed"),
        ("WORKERS", "0", "from 1 to 512"),
        ("WORKERS", "513", "from 1 to 512"),
        ("LOG", "latchkey=loud", "info"),
        ("LOG", "inof", "info"),
        ("LOG", "", "info"),
        ("LOG_FORMAT", "xml", "text or json"),
    ] {
        let mut settings = QUICK.to_vec();
        settings.retain(|setting| setting.0 != name);
        settings.push((name, value));
        let output = run(&[], &settings);
        assert_refused(&output, 2, &[name, remedy]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
        assert!(output.stdout.is_empty() || name == "HOST", "{output:?}");
    }
}

#[test]
fn a_bad_flag_or_command_stops_the_start_with_one_line() {
    assert_refused(
        &run(&["serve", "--port=x"], &QUICK),
        2,
        &["PORT", "--port", "from 0 to 65535"],
    );
    assert_refused(&run(&["serve", "--prt=1"], &QUICK), 2, &["--prt"]);
    assert_refused(
        &run(&["serve", "--port"], &[]),
        2,
        &["PORT", "needs a value"],
    );
    assert_refused(&run(&["server"], &QUICK), 2, &["server"]);
    assert_refused(
        &run(&["migrate"], &[("DATABASE_URL", "x")]),
        2,
        &["DATABASE_URL"],
    );
}

#[test]
fn postgres_needs_a_secret_that_is_given() {
    let settings = [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x"),
        ("PORT", "0"),
    ];
    assert_refused(&run(&[], &settings), 2, &["JWT_SECRET", "32"]);
}

#[test]
fn a_database_or_a_port_that_is_not_there_stops_the_start_with_one_line() {
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let settings = [
        secret,
        ("DATABASE_URL", "postgres://nobody:hunter22@127.0.0.1:1/x"),
        ("PORT", "0"),
    ];
    let output = run(&[], &settings);
    assert_refused(&output, 1, &["PostgreSQL", "127.0.0.1"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
    // What libpq cannot read, it repeats.
    for url in [
        "postgres://app:hunter22@[::1/x",
        "postgres://app:hunter22@[::1]y/x",
        "postgres://app:hunter22@localhost/x?hunter22",
    ] {
        let output = run(&[], &[secret, ("DATABASE_URL", url), ("PORT", "0")]);
        assert_refused(&output, 2, &["DATABASE_URL"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
    }
    let output = run(
        &[],
        &[
            ("DATABASE_URL", "sqlite:///proc/nowhere/x.db"),
            ("PORT", "0"),
        ],
    );
    assert_refused(&output, 1, &["/proc/nowhere/x.db"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&[], &[("PORT", &port), ("BCRYPT_COST", "12")]);
    assert_refused(&output, 1, &[&port, "PORT"]);
}

#[test]
fn settings_are_read_from_an_env_file_and_a_flag_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join(".env"),
        "# mine\nBCRYPT_COST=3\nSIGNUP=\"open\"\n",
    )
    .unwrap();
    assert_refused(
        &run_in(folder.path(), &[], &[("PORT", "0")]),
        2,
        &["BCRYPT_COST"],
    );
    // The environment comes before the file, a flag before both.
    let output = run_in(
        folder.path(),
        &["serve", "--port=x"],
        &[("BCRYPT_COST", "4"), ("PORT", "0")],
    );
    assert_refused(&output, 2, &["PORT"]);

    fs::write(
        folder.path().join(".env"),
        "SIGNUP=open\nJWT_SECRET hunter22\n",
    )
    .unwrap();
    let output = run_in(folder.path(), &[], &QUICK);
    assert_refused(&output, 2, &[".env", "line 2"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
}

#[test]
fn openapi_prints_the_document() {
    let output = run(&["openapi"], &[]);
    assert!(output.status.success());
    let committed = fs::read("openapi/openapi.json").unwrap();
    assert!(output.stdout == committed);
}

#[test]
fn a_low_bcrypt_cost_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let log = Program::start(folder.path(), &QUICK).stop();
    assert!(log.contains("WARN") && log.contains("BCRYPT_COST"), "{log}");
}

#[test]
fn eight_instances_started_at_once_on_an_empty_embedded_database_all_come_up() {
    let folder = tempfile::tempdir().unwrap();
    start_eight(folder.path(), &QUICK);
}

#[test]
fn eight_instances_started_at_once_on_an_empty_postgres_all_come_up() {
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
        // One secret and one database for all of them.
        let there = program
            .client()
            .with("authorization", &ada.header("authorization"));
        assert_eq!(there.get("/auth/me").status, 200);
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
fn migrate_runs_the_migrations_alone_and_again_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_in(folder.path(), &["migrate"], &[]);
    assert!(first.status.success(), "{first:?}");
    assert!(String::from_utf8_lossy(&first.stdout).contains("migrated"));
    assert!(folder.path().join("data/latchkey.db").exists());
    let second = run_in(folder.path(), &["migrate"], &[]);
    assert!(second.status.success());
    assert!(!String::from_utf8_lossy(&second.stdout).contains("migrated"));
    Program::start(folder.path(), &QUICK)
        .client()
        .sign_up("ada@example.com");
}

#[test]
fn told_to_stop_it_finishes_what_it_is_answering_and_exits_0() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path(), &QUICK);
        let body = format!(r#"{{"email":"ada@example.com","password":"{PASSWORD}"}}"#);
        let length = body.len();
        let head = format!(
            "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        );
        let address = program.base.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // Once it asks for the body, it is at work on the answer.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        program.signal(signal);
        program.await_line("stopping");
        stream.write_all(body.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 201"), "{signal}: {reply}");
        assert_eq!(program.wait().code(), Some(0));
        assert!(TcpStream::connect(&address).is_err());
    }
}

#[test]
fn told_to_stop_twice_it_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), &QUICK);
    // A client that never ends its request.
    let mut stream = TcpStream::connect(program.base.trim_start_matches("http://")).unwrap();
    let head = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 10\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 25]).unwrap();
    program.signal("TERM");
    program.await_line("stopping");
    let told = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(1));
    assert!(
        told.elapsed() < Duration::from_secs(5),
        "{:?}",
        told.elapsed()
    );
}

#[test]
fn told_to_stop_it_does_not_wait_for_idle_connections_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), &QUICK);
    let client = program.client();
    // Its connection stays open.
    assert_eq!(client.get("/health/live").status, 200);
    let told = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(
        told.elapsed() < Duration::from_secs(10),
        "{:?}",
        told.elapsed()
    );
}

#[test]
fn postgres_is_reached_over_tls_and_only_if_its_certificate_is_good() {
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
    for good in [
        "sslmode=require",
        &format!("sslmode=verify-full&sslrootcert={root}"),
    ] {
        let output = start(good);
        assert!(output.status.success(), "{good}: {output:?}");
    }
    // Nobody whom this machine trusts has vouched for that certificate.
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    assert_refused(
        &start(&format!("sslmode=verify-full&sslrootcert={bundle}")),
        1,
        &["PostgreSQL"],
    );
    // It was not made out to this name.
    let by_address = url.replace("localhost", "127.0.0.1");
    let elsewhere = format!("{by_address}?sslmode=verify-full&sslrootcert={root}");
    let output = run_in(folder.path(), &["migrate"], &[("DATABASE_URL", &elsewhere)]);
    assert_refused(&output, 1, &["certificate"]);
}

/// SQLite tells other processes by this lock that the file is in use. Without it the last one that
/// leaves, a backup tool perhaps, removes the write-ahead log under the server, and all that is
/// acknowledged from then on is lost.
#[test]
#[cfg(target_os = "linux")]
fn the_embedded_database_stays_locked_against_its_removal_while_it_is_served() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let ada = program.client().sign_up("ada@example.com");
    thread::scope(|scope| {
        // So that the pool opens more connections than one.
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
fn once_migrated_postgres_is_served_by_a_role_that_may_not_create_tables() {
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
    let role = database.role_that_may_only_use_the_tables();
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
fn a_postgres_database_that_cannot_hold_every_letter_is_refused() {
    let Some(database) = postgres::fresh_database_with("ENCODING 'LATIN1' TEMPLATE template0")
    else {
        return;
    };
    let output = run(&["migrate"], &[("DATABASE_URL", &database.url)]);
    assert_refused(&output, 1, &["LATIN1", "UTF8"]);
}
