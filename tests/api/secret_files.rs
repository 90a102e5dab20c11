//! `*_FILE` settings: secrets read from files, as container engines and systemd provide them.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::support::{
    Client, Program,
    program::{QUICK, assert_fails_with_one_line, run, run_in},
};

const SECRET: &str = "a-secret-for-tests-and-only-for-tests";
const PREVIOUS: &str = "the-secret-for-tests-before-that-one";

#[test]
fn secret_files_are_read_without_their_trailing_newline() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (secret, database) = (
        file("secret", &format!("{SECRET}\n")),
        folder.path().join("x.db"),
    );
    let database = format!("sqlite://{}", database.display());
    let url = file("url", &format!("{database}\r\n"));

    let mut settings = QUICK.to_vec();
    settings.extend([("JWT_SECRET_FILE", &*secret), ("DATABASE_URL_FILE", &*url)]);
    let program = Program::start(folder.path(), &settings);
    let ada = program.client().sign_up("ada@example.com");
    program.stop();
    assert!(folder.path().join("x.db").exists());
    assert!(!folder.path().join("data").exists());
    assert!(!folder.path().join("x.db.jwt-secret").exists());

    // The secret is the same as when it is set directly.
    let mut settings = QUICK.to_vec();
    settings.extend([("JWT_SECRET", SECRET), ("DATABASE_URL", &*database)]);
    let program = Program::start(folder.path(), &settings);
    let token = ada.header("authorization");
    let status_with_token = |program: &Program| {
        let client = Client::new(&program.base).with("authorization", &token);
        client.get("/auth/me").status
    };
    assert_eq!(status_with_token(&program), 200);
    program.stop();

    // The previous secret can come from a file too, next to a new current one.
    let (next, before) = (file("next", PREVIOUS), file("before", SECRET));
    let mut settings = QUICK.to_vec();
    settings.extend([
        ("JWT_SECRET_FILE", &*next),
        ("JWT_SECRET_PREVIOUS_FILE", &*before),
        ("DATABASE_URL_FILE", &*url),
    ]);
    let program = Program::start(folder.path(), &settings);
    assert_eq!(status_with_token(&program), 200);

    // Each command that takes the setting also takes its file variable.
    let url_setting = [("DATABASE_URL_FILE", &*url)];
    for arguments in [
        &["admin", "grant", "ada@example.com"][..],
        &["admin", "grant", "--", "ada@example.com"],
        &["migrate"],
        &["backup", "copy.db"],
    ] {
        let output = run_in(folder.path(), arguments, &url_setting);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn invalid_secret_file_fails_the_start_with_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = folder.path().join("missing").display().to_string();
    let short = file("short", b"hunter22\n");
    let binary = file("binary", &[0xff; 40]);
    let empty = file("empty", b"");
    let blank = file("blank", b"\xef\xbb\xbf \r\n");
    let long = file("long", &[b'x'; 70_000]);
    let here = folder.path().to_str().unwrap();
    for (name, path, remedy) in [
        ("JWT_SECRET_FILE", &*missing, "cannot be read"),
        ("JWT_SECRET_FILE", here, "cannot be read"),
        ("JWT_SECRET_FILE", &short, "at least 32"),
        ("JWT_SECRET_FILE", &empty, "is empty"),
        ("JWT_SECRET_FILE", &blank, "is empty"),
        ("REDIS_URL_FILE", &empty, "is empty"),
        ("JWT_SECRET_FILE", &binary, "UTF-8"),
        ("JWT_SECRET_FILE", &long, "65536"),
        ("JWT_SECRET_PREVIOUS_FILE", &short, "at least 32"),
        ("DATABASE_URL_FILE", &missing, "cannot be read"),
        ("DATABASE_URL_FILE", &short, "sqlite://path"),
        ("REDIS_URL_FILE", &short, "redis://"),
    ] {
        let mut settings = QUICK.to_vec();
        settings.push((name, path));
        for arguments in [&[][..], &["serve"]] {
            let output = run(arguments, &settings);
            assert_fails_with_one_line(&output, 2, &[name, path, remedy]);
            assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
        }
    }
    let output = run(&[], &[("JWT_SECRET_FILE", "~/secret"), ("PORT", "0")]);
    assert_fails_with_one_line(&output, 2, &["JWT_SECRET_FILE", "write the folder out"]);
    for arguments in [
        &["migrate"][..],
        &["backup", "x"],
        &["admin", "grant", "a@example.com"],
    ] {
        let output = run(arguments, &[("DATABASE_URL_FILE", &missing)]);
        assert_fails_with_one_line(&output, 2, &["DATABASE_URL_FILE", &missing]);
    }
}

#[test]
fn setting_given_both_directly_and_as_a_file_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, SECRET).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let path = path.to_str().unwrap();
    let mut settings = QUICK.to_vec();
    settings.extend([("JWT_SECRET", SECRET), ("JWT_SECRET_FILE", path)]);
    assert_fails_with_one_line(&run(&[], &settings), 2, &["JWT_SECRET and JWT_SECRET_FILE"]);

    // A flag overrides both variables, as it overrides every variable.
    let data = folder.path().join("flag.db");
    let flag = format!("--database-url=sqlite://{}", data.display());
    let output = run(&["migrate", &flag], &[("DATABASE_URL_FILE", "/nowhere")]);
    assert!(output.status.success(), "{output:?}");
    assert!(data.exists());
}

#[test]
fn help_lists_the_file_variables() {
    let help = String::from_utf8(run(&["--help"], &[]).stdout).unwrap();
    for name in [
        "JWT_SECRET_FILE",
        "JWT_SECRET_PREVIOUS_FILE",
        "DATABASE_URL_FILE",
        "REDIS_URL_FILE",
    ] {
        assert!(help.contains(&format!("\n  {name}\n")), "no {name}: {help}");
    }
    assert!(!help.contains("HOST_FILE"));
}
