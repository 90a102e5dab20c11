//! The systemd unit and its drop-ins.

use std::{fs, process::Command};

use super::{Help, read, seconds};
use crate::support::skip;

const UNIT: &str = "deploy/latchkey.service";
const POSTGRESQL: &str = "deploy/latchkey.service.d/postgresql.conf";
const TLS: &str = "deploy/latchkey.service.d/tls.conf";

/// Returns all values of a directive.
fn all(file: &str, name: &str) -> Vec<String> {
    let text = read(file);
    let values = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

#[track_caller]
fn only(name: &str) -> String {
    let mut found = all(UNIT, name);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

#[test]
fn unit_names_existing_commands_settings_and_credentials() {
    let help = Help::read();
    let start = only("ExecStart");
    let mut words = start.split(' ');
    assert!(words.next().unwrap().ends_with("/latchkey"), "{start}");
    help.assert_command(words.next().expect("a command"), UNIT);
    let credentials = all(POSTGRESQL, "LoadCredential");
    let names: Vec<_> = credentials
        .iter()
        .map(|c| c.split_once(':').expect(c).0)
        .collect();
    let settings = all(POSTGRESQL, "Environment");
    assert_eq!(settings.len(), names.len());
    for setting in &settings {
        let (name, file) = setting.split_once('=').expect(setting);
        help.assert_setting(name, POSTGRESQL);
        let credential = file.strip_prefix("%d/").expect(file);
        assert!(names.contains(&credential), "{credential} is not loaded");
    }
    for setting in all(TLS, "Environment") {
        help.assert_setting(setting.split('=').next().unwrap(), TLS);
    }
}

#[test]
fn unit_user_can_read_the_certificate_after_a_reload() {
    assert_eq!(only("DynamicUser"), "yes");
    let groups = all(TLS, "SupplementaryGroups");
    let [group] = &groups[..] else {
        panic!("{groups:?}")
    };
    let text = read(TLS);
    let made = format!("install -m 640 -g {group} fullchain.pem privkey.pem ");
    let (_, folder) = text.split_once(&made).expect(&made);
    let folder = folder.lines().next().unwrap();
    assert!(text.contains(&format!(
        "install -d -m 750 -g {group} {}",
        folder.trim_end_matches('/')
    )));
    for setting in all(TLS, "Environment") {
        let (_, file) = setting.split_once('=').expect("a file");
        assert!(file.starts_with(folder), "{file}");
    }
    assert!(only("ExecReload").contains("-HUP"));
    // A credential would be a copy of the certificate from the start, which a reload does not update.
    assert!(all(TLS, "LoadCredential").is_empty());
}

#[test]
fn unit_stop_timeout_exceeds_shutdown_seconds() {
    let stop = Help::read().default_seconds("SHUTDOWN_SECONDS");
    assert!(seconds(&only("TimeoutStopSec")) >= stop + 5);
}

#[test]
fn unit_can_write_only_the_database_folder() {
    let folder = only("StateDirectory");
    assert_eq!(only("WorkingDirectory"), format!("%S/{folder}"));
    let database = Help::read().default_of("DATABASE_URL");
    let file = database
        .strip_prefix("sqlite://")
        .expect("the embedded database");
    assert!(
        !file.starts_with('/'),
        "the file must be below the working folder: {file}"
    );
    for (name, value) in [
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectoryMode", "0700"),
    ] {
        assert_eq!(only(name), value, "{name}");
    }
    assert!(all(UNIT, "ReadWritePaths").is_empty());
}

/// systemd-analyze also checks that every directive exists.
#[test]
fn unit_is_valid_and_has_a_low_exposure_score() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        skip("systemd: its program systemd-analyze is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latchkey.service");
    // systemd-analyze checks that the program exists, which is not installed here.
    let unit = read(UNIT).replace("/usr/local/bin/latchkey", env!("CARGO_BIN_EXE_latchkey"));
    fs::write(&file, unit).unwrap();
    let drop_ins = folder.path().join("latchkey.service.d");
    fs::create_dir(&drop_ins).unwrap();
    for (name, drop_in) in [("postgresql.conf", POSTGRESQL), ("tls.conf", TLS)] {
        fs::write(drop_ins.join(name), read(drop_in)).unwrap();
    }
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&file)
            .output()
            .unwrap();
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        // Ignores problems of other units on this machine.
        let ours: Vec<_> = messages
            .lines()
            .filter(|line| line.contains("latchkey"))
            .collect();
        assert!(
            output.status.success() && ours.is_empty(),
            "{arguments:?}: {messages}"
        );
    };
    analyze(&["verify"]);
    // The threshold is in tenths: 100 is the highest exposure. The remaining exposure is network and clock.
    analyze(&["security", "--offline=yes", "--threshold=20"]);
}
