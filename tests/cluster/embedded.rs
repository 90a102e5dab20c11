//! The embedded database is served by one process at a time, which therefore sees every change.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::support::{
    Program, path_of,
    program::{QUICK, assert_fails_with_one_line, run_in},
};

const FILE: &str = "data/latchkey.db";

fn assert_second_server_fails(folder: &Path, url: &str) {
    let settings = [&QUICK[..], &[("DATABASE_URL", url)]].concat();
    assert_fails_with_one_line(&run_in(folder, &[], &settings), 1, &["latchkey.db"]);
}

#[test]
fn second_server_on_the_same_file_fails_to_start_and_the_first_continues() {
    let folder = tempfile::tempdir().unwrap();
    let first = Program::start(folder.path(), &QUICK);
    let ada = first.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let caller = first.client().with_key(key["api_key"].as_str().unwrap());

    let file = fs::canonicalize(folder.path().join(FILE)).unwrap();
    symlink(&file, folder.path().join("other-latchkey.db")).unwrap();
    for url in [
        format!("sqlite://{FILE}"),
        format!("sqlite://{}", file.display()),
        "sqlite://other-latchkey.db".to_owned(),
    ] {
        assert_second_server_fails(folder.path(), &url);
        assert_eq!(caller.get("/protected").status, 200);
    }

    // Commands that run beside the server are allowed.
    let granted = run_in(folder.path(), &["admin", "grant", "ada@example.com"], &[]);
    assert!(granted.status.success(), "{granted:?}");
    assert_eq!(ada.get("/admin/users").status, 200);
    assert_eq!(ada.delete(&path_of(&key)).status, 200);
    assert_eq!(caller.get("/protected").status, 401);
}

#[test]
fn server_starts_after_a_shutdown_or_a_kill_of_its_predecessor() {
    let folder = tempfile::tempdir().unwrap();
    for killed in [false, true, true, false] {
        let program = Program::start(folder.path(), &QUICK);
        assert_eq!(program.client().get("/health/ready").status, 200);
        if killed {
            drop(program);
        } else {
            program.stop();
        }
    }
}
