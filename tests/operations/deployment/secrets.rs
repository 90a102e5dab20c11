//! `deploy/make-secrets`: the files that compose.yaml takes its secrets from.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
};

use super::path;

/// Runs it, and answers what the files are that it has made.
pub fn make_secrets(folder: &Path) -> BTreeMap<String, String> {
    let made = Command::new("sh")
        .arg(path("deploy/make-secrets"))
        .arg(folder)
        .output()
        .expect("a shell");
    assert!(made.status.success(), "{made:?}");
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn secrets_are_made_once_and_nobody_else_finds_them() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("secrets");
    let made = make_secrets(&folder);
    assert_eq!(
        make_secrets(&folder),
        made,
        "the second time nothing changes"
    );
    let other = make_secrets(&parent.path().join("others"));
    for (name, secret) in &made {
        assert_ne!(other[name], *secret, "{name}");
        assert_eq!(secret.trim(), secret, "{name}");
    }
    assert!(made["jwt_secret"].len() >= 43, "32 random bytes");
    assert!(made["postgres_password"].len() >= 32);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    // A container mounts the file alone and reads it as a user of its own.
    assert_eq!(mode(&folder.join("jwt_secret")), 0o644);
}
