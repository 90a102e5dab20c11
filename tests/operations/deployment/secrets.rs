//! `deploy/make-secrets`, which creates the secrets of compose.yaml.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
};

use super::path;

/// Runs the script, and returns names and contents of the files that it has created.
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
fn make_secrets_creates_random_secrets_once_in_a_private_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("secrets");
    let made = make_secrets(&folder);
    assert_eq!(make_secrets(&folder), made, "a second run changes nothing");
    let other = make_secrets(&parent.path().join("others"));
    for (name, secret) in &made {
        assert_ne!(other[name], *secret, "{name}");
        assert_eq!(secret.trim(), secret, "{name}");
    }
    assert!(made["jwt_secret"].len() >= 43, "32 random bytes");
    assert!(made["postgres_password"].len() >= 32);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    // A container mounts the single file, and reads it as another user.
    assert_eq!(mode(&folder.join("jwt_secret")), 0o644);
}
