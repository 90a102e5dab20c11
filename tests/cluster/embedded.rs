//! The embedded database has one server at a time, which therefore knows of every change.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::support::{
    Program, path_of,
    program::{QUICK, assert_refused, run_in},
};

const FILE: &str = "data/latchkey.db";

fn assert_second_is_refused(folder: &Path, url: &str) {
    let settings = [&QUICK[..], &[("DATABASE_URL", url)]].concat();
    assert_refused(&run_in(folder, &[], &settings), 1, &["latchkey.db"]);
}

#[test]
fn a_second_server_on_the_same_file_is_refused_and_the_first_goes_on() {
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
        assert_second_is_refused(folder.path(), &url);
        assert_eq!(caller.get("/protected").status, 200);
    }

    // Which is not so for what does its work and goes.
    let granted = run_in(folder.path(), &["admin", "grant", "ada@example.com"], &[]);
    assert!(granted.status.success(), "{granted:?}");
    assert_eq!(ada.get("/admin/users").status, 200);
    assert_eq!(ada.delete(&path_of(&key)).status, 200);
    assert_eq!(caller.get("/protected").status, 401);
}

#[test]
fn the_next_server_starts_however_the_one_before_ended() {
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
