//! `.env`: values are what is written there, and what could be read in two ways is rejected. Variables that
//! look like a setting and are none are named in the log.

use std::fs;

use crate::support::{
    Client, Program,
    program::{QUICK, assert_refused, run_in},
};

/// With all that shells and other readers of such files replace.
const SECRET: &str = "abc$def${HOME}$$-and-some-more-letters-that-make-it-long";

#[test]
fn dollar_in_the_file_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    let program = Program::start(
        folder.path(),
        &[&QUICK[..], &[("JWT_SECRET", SECRET)]].concat(),
    );
    let token = program
        .client()
        .sign_up("ada@example.com")
        .header("authorization");
    program.stop();
    for line in [
        format!("JWT_SECRET={SECRET}"),
        format!("JWT_SECRET='{SECRET}'"),
        format!("JWT_SECRET=\"{SECRET}\""),
        format!("\u{feff}export JWT_SECRET = {SECRET} \r\nSIGNUP=closed\r\n"),
    ] {
        fs::write(&file, &line).unwrap();
        let settings = [&QUICK[..], &[("def", "x"), ("HOME", "/root")]].concat();
        let program = Program::start(folder.path(), &settings);
        let client = Client::new(&program.base).with("authorization", &token);
        assert_eq!(client.get("/auth/me").status, 200, "{line}");
        program.stop();
    }
}

#[test]
fn file_that_programs_read_differently_is_rejected_by_the_number_of_its_line() {
    for (line, remedy) in [
        ("JWT_SECRET hunter22", "NAME=value"),
        ("JWT_SECRET: hunter22", "NAME=value"),
        ("JWT_SECRET='hunter22", "quote"),
        ("JWT_SECRET=hunter22\"x\"", "NAME='value'"),
        (
            "JWT_SECRET=hunter22 # mine",
            "a comment on a line of its own",
        ),
        ("JWT_SECRET=\"hunter22\\n\"", "NAME='value'"),
        ("JWT_SECRET=hunter22\rPORT=1", "control character"),
        ("SIGNUP=hunter22", "sets what line 1 sets"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(".env"),
            format!("SIGNUP=open\n\n{line}\n"),
        )
        .unwrap();
        for arguments in [&[][..], &["migrate"], &["health"]] {
            let output = run_in(folder.path(), arguments, &QUICK);
            assert_refused(&output, 2, &[".env", "line 3", remedy]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!said.contains("hunter22"), "{said}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), b"PORT=0\nLOG=\xff\n").unwrap();
    assert_refused(&run_in(folder.path(), &[], &[]), 2, &["line 2", "UTF-8"]);
}

#[test]
fn misspelt_variable_is_named_once_and_its_value_never() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join(".env"),
        "BCRYPT_COST=4\nPGPASSWORD=hunter22\nbG9uZ3Rva2Vu=hunter22\nSIGN_UPS=closed\n",
    )
    .unwrap();
    let settings = [
        ("PORT", "0"),
        ("SIGN_UP", "hunter22"),
        ("DATABASE_URI", "hunter22"),
        ("RATELIMIT", "hunter22"),
        ("LOG_FILE", "hunter22"),
        ("JWT_SECRETS_FILE", "hunter22"),
        ("BCRYPT_COSTS", "  "),
    ];
    let log = Program::start(folder.path(), &settings).stop();
    for (named, meant) in [
        ("\"SIGN_UP\"", "\"SIGNUP\""),
        ("\"DATABASE_URI\"", "\"DATABASE_URL\""),
        (
            "\"RATELIMIT\"",
            "\"DEFAULT_RATE_LIMIT or SIGNUP_RATE_LIMIT\"",
        ),
        ("\"LOG_FILE\"", "\"LOG\""),
        ("\"JWT_SECRETS_FILE\"", "\"JWT_SECRET_FILE\""),
        ("\"SIGN_UPS (.env, line 4)\"", "\"SIGNUP\""),
        ("\"PGPASSWORD (.env, line 2)\"", "remove it"),
        ("\"line 3 of .env\"", "remove it"),
    ] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(named)).collect();
        let [line] = &lines[..] else {
            panic!("{named}: {log}")
        };
        assert!(line.contains("WARN") && line.contains(meant), "{line}");
    }
    assert!(!log.contains("hunter22") && !log.contains("bG9u"), "{log}");
    assert_eq!(log.matches("unknown variable").count(), 8, "{log}");
    // It is done as well where nothing is served.
    let output = run_in(folder.path(), &["migrate"], &settings);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.matches("unknown variable").count(), 8, "{said}");
}

#[test]
fn usual_environment_is_not_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    // This process's own, of a login and of Cargo, and what Kubernetes and Docker add.
    let mut command = Program::command(folder.path(), &[], &[]);
    command
        .envs(std::env::vars_os())
        .envs([
            ("LATCHKEY_PORT", "tcp://10.0.0.1:8000"),
            ("LATCHKEY_PORT_8000_TCP_PORT", "8000"),
            ("LATCHKEY_SERVICE_HOST", "10.0.0.1"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("REDIS_PORT", "tcp://10.0.0.2:6379"),
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/password"),
            ("DATABASE_HOST", "db"),
            ("LOG_LEVEL", "debug"),
            ("HOSTNAME", "x"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
        ])
        .envs([("PORT", "0"), ("BCRYPT_COST", "12"), ("LOG", "info")])
        .env_remove("HOST")
        .env_remove("DATABASE_URL");
    let log = Program::listening(&mut command).stop();
    assert!(!log.contains("WARN"), "{log}");
}
