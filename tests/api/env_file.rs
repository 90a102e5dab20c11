//! `.env`: values are taken literally, and a line that programs read differently is rejected.
//!
//! Unknown variables that look like a setting are named in the log.

use std::fs;

use crate::support::{
    Client, Program,
    program::{QUICK, assert_fails_with_one_line, run_in},
};

/// Secret with everything that shells and other readers of such files expand.
const SECRET: &str = "abc$def${HOME}$$-and-some-more-letters-that-make-it-long";

#[test]
fn dollar_sign_in_the_env_file_is_kept() {
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
fn ambiguous_line_of_the_env_file_is_rejected_with_its_number() {
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
        ("SIGNUP=hunter22", "sets the same variable as line 1"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(".env"),
            format!("SIGNUP=open\n\n{line}\n"),
        )
        .unwrap();
        for arguments in [&[][..], &["migrate"], &["health"]] {
            let output = run_in(folder.path(), arguments, &QUICK);
            assert_fails_with_one_line(&output, 2, &[".env", "line 3", remedy]);
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!message.contains("hunter22"), "{message}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), b"PORT=0\nLOG=\xff\n").unwrap();
    assert_fails_with_one_line(&run_in(folder.path(), &[], &[]), 2, &["line 2", "UTF-8"]);
}

#[test]
fn misspelt_variable_is_logged_once_and_without_its_value() {
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
    for (name, suggestion) in [
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
        let lines: Vec<_> = log.lines().filter(|line| line.contains(name)).collect();
        let [line] = &lines[..] else {
            panic!("{name}: {log}")
        };
        assert!(line.contains("WARN") && line.contains(suggestion), "{line}");
    }
    assert!(!log.contains("hunter22") && !log.contains("bG9u"), "{log}");
    assert_eq!(log.matches("unknown variable").count(), 8, "{log}");
    // Commands that serve nothing log it, too.
    let output = run_in(folder.path(), &["migrate"], &settings);
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(log.matches("unknown variable").count(), 8, "{log}");
}

#[test]
fn usual_environment_variables_cause_no_warning() {
    let folder = tempfile::tempdir().unwrap();
    // The variables of this process, from a login and from Cargo, and those that Kubernetes and Docker add.
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
