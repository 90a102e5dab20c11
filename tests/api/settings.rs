//! The command line: settings, their precedence, and errors about invalid ones.

use std::fs;

use crate::support::{
    Client, Program,
    program::{QUICK, assert_fails_with_one_line, run, run_in},
};

#[test]
fn default_port_is_8000() {
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
fn help_lists_every_setting_and_shows_no_secret() {
    let secrets = [
        (
            "JWT_SECRET",
            "not-to-be-shown-not-to-be-shown-not-to-be-shown",
        ),
        ("REDIS_URL", "redis://:not-to-be-shown@localhost"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://:not-to-be-shown@localhost",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "token=not-to-be-shown"),
    ];
    let output = run(&["--help"], &secrets);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for setting in [
        "HOST",
        "PORT",
        "DATABASE_URL",
        "DATABASE_POOL_SIZE",
        "DATABASE_TIMEOUT_SECONDS",
        "MAX_HEAD_BYTES",
        "MAX_BODY_BYTES",
        "HEAD_SECONDS",
        "BODY_SECONDS",
        "ANSWER_SECONDS",
        "KEEP_ALIVE_SECONDS",
        "MAX_CONNECTIONS",
        "MAX_CONNECTIONS_PER_ADDRESS",
        "SHUTDOWN_SECONDS",
        "DRAIN_SECONDS",
        "TLS_CERT",
        "TLS_KEY",
        "JWT_SECRET",
        "JWT_SECRET_PREVIOUS",
        "JWT_TTL_SECONDS",
        "BCRYPT_COST",
        "SIGNUP",
        "TRUSTED_PROXIES",
        "CORS_ALLOWED_ORIGINS",
        "DEFAULT_RATE_LIMIT",
        "SIGNUP_RATE_LIMIT",
        "REDIS_URL",
        "WORKERS",
        "METRICS_ADDR",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_SERVICE_NAME",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "LOG",
        "LOG_FORMAT",
    ] {
        assert!(
            help.contains(&format!("\n  {setting}\n")),
            "no {setting} in {help}"
        );
    }
    for command in [
        "serve", "migrate", "openapi", "admin", "backup", "copy", "health",
    ] {
        assert!(
            help.contains(&format!("\n  {command}")),
            "no {command} in {help}"
        );
    }
    for arguments in [["serve", "--help"], ["migrate", "--help"]] {
        let output = run(&arguments, &secrets);
        assert!(
            !String::from_utf8(output.stdout)
                .unwrap()
                .contains("not-to-be-shown")
        );
    }
    assert!(!help.contains("not-to-be-shown"));
}

#[test]
fn invalid_setting_fails_the_start_with_one_line_that_names_it() {
    for (name, value, remedy) in [
        ("PORT", "http", "from 0 to 65535"),
        ("PORT", "65536", "from 0 to 65535"),
        ("HOST", "no such host", "127.0.0.1"),
        (
            "DATABASE_URL",
            "mysql://root:hunter22@localhost/x",
            "postgres://",
        ),
        ("DATABASE_URL", "sqlite://", "sqlite://path"),
        ("DATABASE_URL", "sqlite://:memory:", "file"),
        ("DATABASE_URL", "data/latchkey.db", "sqlite://path"),
        ("DATABASE_URL", "sqlite://x.db?mode=rwc", "no parameters"),
        ("DATABASE_URL", "sqlite://x.db#x", "no parameters"),
        ("DATABASE_URL", "sqlite://my%20keys.db", "character itself"),
        ("DATABASE_URL", "sqlite://x\r.db", "invisible"),
        ("DATABASE_URL", "sqlite://~/x.db", "write the folder out"),
        ("DATABASE_URL", "sqlite://$HOME/x.db", "write its value out"),
        ("DATABASE_URL", "sqlite://C:\\data\\x.db", "Windows"),
        ("DATABASE_URL", "sqlite:///C:/data/x.db", "Windows"),
        ("DATABASE_URL", "sqlite:// x.db", "blank"),
        ("DATABASE_URL", "sqlite://'x.db'", "quotes"),
        ("DATABASE_URL", "sqlite://file:x.db", "path of a file"),
        (
            "DATABASE_URL",
            "postgres://app:hunter22@localhost/\rx",
            "invisible",
        ),
        ("TLS_CERT", "~/cert.pem", "write the folder out"),
        ("TLS_KEY", "file:///etc/key.pem", "path of a file"),
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
        ("DATABASE_TIMEOUT_SECONDS", "0", "from 1 to 60"),
        ("MAX_HEAD_BYTES", "1023", "from 1024 to 131072"),
        ("MAX_HEAD_BYTES", "32KiB", "from 1024 to 131072"),
        ("MAX_BODY_BYTES", "0", "from 1024 to 16777216"),
        ("HEAD_SECONDS", "0", "from 1 to 600"),
        ("BODY_SECONDS", "10s", "from 1 to 600"),
        ("ANSWER_SECONDS", "-1", "from 1 to 600"),
        ("KEEP_ALIVE_SECONDS", "0", "from 1 to 3600"),
        ("MAX_CONNECTIONS", "0", "from 1 to 1000000"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "0", "from 1 to 1000000"),
        ("SHUTDOWN_SECONDS", "0", "from 1 to 3600"),
        ("DRAIN_SECONDS", "1801", "from 0 to 1800"),
        ("JWT_SECRET", "hunter22", "32"),
        ("JWT_SECRET_PREVIOUS", "hunter22", "32"),
        ("JWT_TTL_SECONDS", "0", "from 1 to 2592000"),
        ("JWT_TTL_SECONDS", "an hour", "from 1 to 2592000"),
        ("BCRYPT_COST", "3", "from 4 to 16"),
        ("BCRYPT_COST", "17", "from 4 to 16"),
        ("SIGNUP", "maybe", "open or closed"),
        ("TRUSTED_PROXIES", "proxy.example.com", "203.0.113.7"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "203.0.113.7"),
        ("TRUSTED_PROXIES", "10.0.0.0/8;::1", "commas"),
        ("TRUSTED_PROXIES", "*", "203.0.113.7"),
        ("CORS_ALLOWED_ORIGINS", "*", "https://app.example.com"),
        ("CORS_ALLOWED_ORIGINS", "app.example.com", "scheme://host"),
        (
            "CORS_ALLOWED_ORIGINS",
            "https://a.example/",
            "without a path",
        ),
        (
            "CORS_ALLOWED_ORIGINS",
            "https://a.example;https://b.example",
            "commas",
        ),
        ("DEFAULT_RATE_LIMIT", "100", "1000/60"),
        ("DEFAULT_RATE_LIMIT", "0/60", "1000/60"),
        ("DEFAULT_RATE_LIMIT", "100/0", "1000/60"),
        ("DEFAULT_RATE_LIMIT", "100/86401", "1000/60"),
        ("DEFAULT_RATE_LIMIT", "9007199254740993/60", "1000/60"),
        ("DEFAULT_RATE_LIMIT", "x/60", "1000/60"),
        ("DEFAULT_RATE_LIMIT", "100/60/1", "1000/60"),
        ("SIGNUP_RATE_LIMIT", "100", "1000/60"),
        ("SIGNUP_RATE_LIMIT", "0/60", "1000/60"),
        ("SIGNUP_RATE_LIMIT", "100/0", "1000/60"),
        ("SIGNUP_RATE_LIMIT", "100/86401", "1000/60"),
        ("SIGNUP_RATE_LIMIT", "-1/60", "1000/60"),
        ("SIGNUP_RATE_LIMIT", "10/hour", "1000/60"),
        ("REDIS_URL", "http://:hunter22@localhost", "redis://"),
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("REDIS_URL", "redis://:hunter\n22@localhost", "redis://"),
        ("REDIS_URL", "redis://", "redis://"),
        ("REDIS_URL", "redis://:hunter22@", "redis://"),
        ("REDIS_URL", "redis:///0", "redis://"),
        ("REDIS_URL", "redis://:hunter22@localhost:port", "redis://"),
        (
            "REDIS_URL",
            "rediss://:hunter22@localhost:65536",
            "redis://",
        ),
        ("WORKERS", "0", "from 1 to 512"),
        ("WORKERS", "513", "from 1 to 512"),
        ("METRICS_ADDR", "9464", "127.0.0.1:9464"),
        ("METRICS_ADDR", "localhost:9464", "127.0.0.1:9464"),
        ("METRICS_ADDR", "127.0.0.1:65536", "127.0.0.1:9464"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "localhost:4318",
            "http://localhost:4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://ada:hunter22@:4318",
            "http://localhost:4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://localhost:4318/?token=hunter22",
            "http://localhost:4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://ada:hunter22@[x:4318",
            "http://localhost:4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "Bearer hunter22",
            "NAME=VALUE",
        ),
        ("OTEL_TRACES_SAMPLER", "sometimes", "always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "from 0.0 to 1.0"),
        ("OTEL_TRACES_SAMPLER_ARG", "NaN", "from 0.0 to 1.0"),
        ("LOG", "latchkey=loud", "info"),
        ("LOG", "inof", "info"),
        ("LOG_FORMAT", "xml", "text or json"),
    ] {
        let mut settings = QUICK.to_vec();
        settings.retain(|setting| setting.0 != name);
        settings.push((name, value));
        let output = run(&[], &settings);
        assert_fails_with_one_line(&output, 2, &[name, remedy]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
        assert!(output.stdout.is_empty() || name == "HOST", "{output:?}");
    }
}

#[test]
fn contradictory_settings_fail_the_start_with_one_line() {
    for (name, value, other) in [
        ("DRAIN_SECONDS", "6", "half of SHUTDOWN_SECONDS"),
        ("SHUTDOWN_SECONDS", "1", "DRAIN_SECONDS (--drain-seconds)"),
        (
            "TLS_CERT",
            "/nowhere/cert.pem",
            "TLS_KEY (--tls-key) is missing",
        ),
        (
            "TLS_KEY",
            "/nowhere/key.pem",
            "TLS_CERT (--tls-cert) is missing",
        ),
    ] {
        let settings = [&QUICK[..], &[(name, value)]].concat();
        assert_fails_with_one_line(&run(&[], &settings), 2, &[name, other]);
    }
}

#[test]
fn invalid_flag_or_command_fails_the_start_with_one_line() {
    assert_fails_with_one_line(
        &run(&["serve", "--port=x"], &QUICK),
        2,
        &["PORT", "--port", "from 0 to 65535"],
    );
    assert_fails_with_one_line(&run(&["serve", "--prt=1"], &QUICK), 2, &["--prt"]);
    assert_fails_with_one_line(
        &run(&["serve", "--port"], &[]),
        2,
        &["PORT", "needs a value"],
    );
    assert_fails_with_one_line(&run(&["server"], &QUICK), 2, &["server"]);
    assert_fails_with_one_line(
        &run(&["migrate"], &[("DATABASE_URL", "x")]),
        2,
        &["DATABASE_URL"],
    );
}

#[test]
fn postgres_without_a_jwt_secret_fails_the_start() {
    let settings = [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x"),
        ("PORT", "0"),
    ];
    assert_fails_with_one_line(&run(&[], &settings), 2, &["JWT_SECRET", "32"]);
}

#[test]
fn unreachable_database_or_used_port_fails_the_start_with_one_line() {
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let settings = [
        secret,
        ("DATABASE_URL", "postgres://nobody:hunter22@127.0.0.1:1/x"),
        ("PORT", "0"),
    ];
    let output = run(&[], &settings);
    assert_fails_with_one_line(&output, 1, &["PostgreSQL", "127.0.0.1"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
    // libpq repeats a URL that it cannot parse, so the error must not contain it.
    for url in [
        "postgres://app:hunter22@[::1/x",
        "postgres://app:hunter22@[::1]y/x",
        "postgres://app:hunter22@localhost/x?hunter22",
    ] {
        let output = run(&[], &[secret, ("DATABASE_URL", url), ("PORT", "0")]);
        assert_fails_with_one_line(&output, 2, &["DATABASE_URL"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
    }
    let output = run(
        &[],
        &[
            ("DATABASE_URL", "sqlite:///proc/nowhere/x.db"),
            ("PORT", "0"),
        ],
    );
    assert_fails_with_one_line(&output, 1, &["/proc/nowhere/x.db"]);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = run(&[], &[("PORT", &port), ("BCRYPT_COST", "12")]);
    assert_fails_with_one_line(&output, 1, &[&port, "PORT"]);
}

#[test]
fn flag_overrides_environment_which_overrides_the_env_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join(".env"),
        "# mine\nBCRYPT_COST=3\nSIGNUP=\"open\"\n",
    )
    .unwrap();
    assert_fails_with_one_line(
        &run_in(folder.path(), &[], &[("PORT", "0")]),
        2,
        &["BCRYPT_COST"],
    );
    // The environment overrides the file, and a flag overrides both.
    let output = run_in(
        folder.path(),
        &["serve", "--port=x"],
        &[("BCRYPT_COST", "4"), ("PORT", "0")],
    );
    assert_fails_with_one_line(&output, 2, &["PORT"]);

    fs::write(
        folder.path().join(".env"),
        "SIGNUP=open\nJWT_SECRET hunter22\n",
    )
    .unwrap();
    let output = run_in(folder.path(), &[], &QUICK);
    assert_fails_with_one_line(&output, 2, &[".env", "line 2"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
}

#[test]
fn openapi_command_prints_the_committed_document() {
    let output = run(&["openapi"], &[]);
    assert!(output.status.success());
    let committed = fs::read("openapi/openapi.json").unwrap();
    assert!(output.stdout == committed);
}

#[test]
fn low_bcrypt_cost_logs_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let log = Program::start(folder.path(), &QUICK).stop();
    assert!(log.contains("WARN") && log.contains("BCRYPT_COST"), "{log}");
}

#[test]
fn unreachable_redis_does_not_fail_the_start_and_its_password_is_not_logged() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = QUICK.to_vec();
    settings.push(("REDIS_URL", "redis://:hunter22@127.0.0.1:1/0"));
    let program = Program::start(folder.path(), &settings);
    let ada = program.client().sign_up("ada@example.com");
    let chosen = serde_json::json!({"rate_limit": {"limit": 1, "window_seconds": 3600}});
    let key = ada.create_key_with(&chosen);
    let caller = program.client().with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);
    caller.get("/protected").assert_problem(429, "rate_limited");
    program.await_line("cannot reach Redis");
    let log = program.stop();
    assert_eq!(log.matches("cannot reach Redis").count(), 1, "{log}");
    assert!(log.contains("WARN") && !log.contains("hunter22"), "{log}");
}

#[test]
fn metrics_are_served_on_their_own_address_that_the_log_names() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [&QUICK[..], &[("METRICS_ADDR", "127.0.0.1:0")]].concat();
    let program = Program::start(folder.path(), &settings);
    let address = program.said_after("metrics on ");
    let base = address.strip_suffix("/metrics").expect("a path");
    assert_ne!(base, program.base);
    assert_eq!(Client::new(base).get("/metrics").status, 200);
    assert_eq!(program.client().get("/metrics").status, 404);
}
