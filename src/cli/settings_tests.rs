//! Tests of the rule about empty values and blanks, for every setting.

use super::*;
use crate::cli::env_file::Entry;

/// Valid values of the settings without a default.
const EXAMPLES: [(&str, &str); 14] = [
    ("CORS_ALLOWED_ORIGINS", "https://app.example.com"),
    ("DEFAULT_RATE_LIMIT", "1000/60"),
    ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"),
    (
        "JWT_SECRET_PREVIOUS",
        "the-secret-for-tests-before-that-one",
    ),
    ("METRICS_ADDR", "127.0.0.1:9464"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x"),
    ("REDIS_URL", "redis://localhost"),
    ("SIGNUP_RATE_LIMIT", "10/3600"),
    ("TLS_CERT", "cert.pem"),
    ("TLS_KEY", "key.pem"),
    ("TRUSTED_PROXIES", "10.0.0.0/8"),
    ("WORKERS", "2"),
    // `PORT` has a default. The example differs from it, so that a value that is not read fails the test.
    ("PORT", "9000"),
];

fn config(environment: &Environment, flags: &[String]) -> Result<String, String> {
    let words = std::iter::once("latchkey").chain(flags.iter().map(String::as_str));
    let words = words.map(OsString::from).collect();
    read::<Config>(serve_command(), words, environment)
        .map(|config| format!("{config:?}"))
        .map_err(|error| error.to_string())
}

/// Returns the three ways to set a setting: the environment, `.env`, and a flag.
fn set(name: &str, flag: &str, value: &str) -> [(Environment, Vec<String>); 3] {
    let entry = Entry {
        name: name.to_owned(),
        value: value.to_owned(),
        line: 1,
    };
    [
        (
            Environment::of([(name.into(), value.into())], []),
            Vec::new(),
        ),
        (Environment::of([], [entry]), Vec::new()),
        (Environment::default(), vec![format!("{flag}={value}")]),
    ]
}

/// Returns name, flag and a valid value of each setting that `--help` lists.
fn settings() -> Vec<(String, String, String)> {
    let command = serve_command();
    let settings = command.get_arguments().filter_map(|setting| {
        let name = setting.get_env()?.to_string_lossy().into_owned();
        let example = EXAMPLES.iter().find(|(example, _)| *example == name);
        let default = setting.get_default_values().first();
        let value = match (example, default) {
            (Some((_, example)), _) => (*example).to_owned(),
            (None, Some(default)) => default.to_string_lossy().into_owned(),
            (None, None) => panic!("{name} needs an example here"),
        };
        Some((name, flag(setting), value))
    });
    let settings: Vec<_> = settings.collect();
    assert!(settings.len() >= 40, "{}", settings.len());
    settings
}

#[test]
fn empty_value_counts_as_not_set() {
    let default = config(&Environment::default(), &[]);
    assert!(default.is_ok(), "{default:?}");
    for (name, flag, _) in settings() {
        for value in ["", " ", " \t\r\n"] {
            for (environment, flags) in set(&name, &flag, value) {
                assert_eq!(config(&environment, &flags), default, "{name}={value:?}");
            }
        }
    }
}

#[test]
fn blanks_at_either_end_of_a_value_are_ignored() {
    for (name, flag, value) in settings() {
        let [(plain, no_flags), ..] = set(&name, &flag, &value);
        let plain = config(&plain, &no_flags);
        assert!(plain.is_ok(), "{name}: {plain:?}");
        for blanks in [" ", "\t", "\n", "\r\n", "\u{a0}", "\u{feff}"] {
            let padded = format!("{blanks}{value}{blanks}");
            for (environment, flags) in set(&name, &flag, &padded) {
                assert_eq!(config(&environment, &flags), plain, "{name}={padded:?}");
            }
        }
    }
}

/// Without this test, the two tests above would pass if no setting were read at all.
#[test]
fn setting_is_read_from_each_source_in_order_of_precedence() {
    let port = |environment: &Environment, flags: &[&str]| {
        let words = ["latchkey"].iter().chain(flags).map(OsString::from);
        let config: Config = read(serve_command(), words.collect(), environment).unwrap();
        config.port
    };
    let entry = || Entry {
        name: "PORT".to_owned(),
        value: "1".to_owned(),
        line: 1,
    };
    let both = |value: &str| Environment::of([("PORT".into(), value.into())], [entry()]);
    assert_eq!(port(&both("2"), &["--port=3"]), 3);
    assert_eq!(port(&both("2"), &["--port", "3"]), 3);
    assert_eq!(port(&both("2"), &["--port="]), 2);
    assert_eq!(port(&both("2"), &[]), 2);
    assert_eq!(port(&both(""), &[]), 1);
    assert_eq!(port(&Environment::default(), &[]), 8000);
}
