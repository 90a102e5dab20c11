//! Rule for all settings, in variables, `.env` and flags: an empty value counts as unset, and whitespace around a
//! value is ignored. `src/cli/settings_tests.rs` tests the resulting value of each setting.

use std::{fs, path::Path};

use crate::support::{
    Client, Program,
    program::{QUICK, assert_fails_with_one_line, run, run_in},
};

const SECRET: &str = "a-secret-for-tests-and-only-for-tests";

/// Returns every variable that `--help` lists.
fn settings() -> Vec<String> {
    let help = String::from_utf8(run(&["--help"], &[]).stdout).unwrap();
    let names = help.lines().filter_map(|line| line.strip_prefix("  "));
    let is_name = |line: &&str| {
        !line.is_empty()
            && line
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    let names: Vec<_> = names.filter(is_name).map(str::to_owned).collect();
    assert!(names.len() > 45, "{names:?}");
    assert!(names.iter().any(|name| name == "JWT_SECRET_FILE"));
    names
}

fn is_ready(program: &Program) -> bool {
    program.client().get("/health/ready").status == 200
}

#[test]
fn empty_settings_count_as_unset() {
    let settings = settings();
    for value in ["", " \t\r\n"] {
        let folder = tempfile::tempdir().unwrap();
        let empty: Vec<_> = settings.iter().map(|name| (name.as_str(), value)).collect();
        let arguments = ["serve", "--port=0"];
        let mut command = Program::command(folder.path(), &arguments, &empty);
        let program = Program::listening(&mut command);
        assert!(is_ready(&program));
        assert!(folder.path().join("data/latchkey.db").exists());
        let log = program.stop();
        assert!(!log.contains("WARN"), "{log}");
    }
    // The rule also holds in `.env` and for flags.
    let folder = tempfile::tempdir().unwrap();
    let file: String = settings.iter().map(|name| format!("{name}=\r\n")).collect();
    fs::write(folder.path().join(".env"), file).unwrap();
    let flags: Vec<_> = settings
        .iter()
        .filter(|name| !name.ends_with("_FILE"))
        .map(|name| format!("--{}=", name.to_lowercase().replace('_', "-")))
        .collect();
    let mut arguments = vec!["serve"];
    arguments.extend(flags.iter().map(String::as_str));
    let program = Program::listening(&mut Program::command(folder.path(), &arguments, &QUICK));
    assert!(is_ready(&program));
}

#[test]
fn log_filter_with_trailing_whitespace_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("LOG", "info "), ("LOG_FORMAT", "json\r\n")];
    // `start` waits for the log line that the program writes once it listens.
    let program = Program::start(folder.path(), &[&QUICK[..], &settings].concat());
    assert!(is_ready(&program));
    assert!(program.stop().starts_with('{'));
}

#[test]
fn jwt_secret_with_surrounding_whitespace_is_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, format!("\u{feff}{SECRET} \r\n\n")).unwrap();
    let (file, padded) = (file.display().to_string(), format!("\t{SECRET} \r\n"));
    let start =
        |secret: (&str, &str)| Program::start(folder.path(), &[&QUICK[..], &[secret]].concat());
    let program = start(("JWT_SECRET", SECRET));
    let token = program
        .client()
        .sign_up("ada@example.com")
        .header("authorization");
    let is_accepted = |program: &Program| {
        let client = Client::new(&program.base).with("authorization", &token);
        client.get("/auth/me").status == 200
    };
    assert!(is_accepted(&program));
    program.stop();
    for same in [("JWT_SECRET", &*padded), ("JWT_SECRET_FILE", &*file)] {
        let program = start(same);
        assert!(is_accepted(&program), "{}", same.0);
        program.stop();
    }
    let program = start(("JWT_SECRET", "a-secret-for-tests-and-only-for-tests,"));
    assert!(
        !is_accepted(&program),
        "a different secret rejects the token"
    );
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_command_trims_settings_and_ignores_empty_ones() {
    let folder = tempfile::tempdir().unwrap();
    let url = ("DATABASE_URL", " sqlite://x.db\r\n");
    for (arguments, code) in [
        (&["migrate"][..], 0),
        (&["backup", " copy.db\r\n"], 0),
        (
            &["copy", "--from", "sqlite://x.db ", "--to=\tsqlite://y.db\r"],
            0,
        ),
        // No account exists yet.
        (&["admin", "grant", "ada@example.com"], 1),
    ] {
        let empty = ("DATABASE_POOL_SIZE", "");
        let output = run_in(folder.path(), arguments, &[url, empty]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
    }
    assert_eq!(
        files(folder.path())
            .iter()
            .filter(|name| name.ends_with(".db"))
            .count(),
        3
    );
    for name in ["copy.db", "x.db", "y.db"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    assert_fails_with_one_line(&run(&["backup", " "], &[]), 2, &["FILE"]);
    let program = Program::start(folder.path(), &QUICK);
    let port = program.base.rsplit(':').next().unwrap().to_owned();
    let settings = [
        ("HOST", ""),
        ("PORT", &*format!("{port}\n")),
        ("TLS_CERT", ""),
    ];
    let output = run(&["health"], &settings);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn mistaken_sqlite_url_is_rejected_and_creates_no_database() {
    for path in [
        "x.db\r.bak",
        "x.db?mode=rwc",
        "~/x.db",
        "my%20keys.db",
        "C:\\x.db",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{path}");
        for arguments in [&[][..], &["migrate"], &["backup", "copy.db"]] {
            let output = run_in(folder.path(), arguments, &[("DATABASE_URL", &url)]);
            assert_fails_with_one_line(&output, 2, &["DATABASE_URL (--database-url)"]);
        }
        assert!(files(folder.path()).is_empty(), "{path:?}");
    }
}
