//! The systemd unit and its drop-ins.

use std::{fs, process::Command};

use super::{Help, read, seconds};
use crate::support::skip;

const UNIT: &str = "deploy/latchkey.service";
const POSTGRESQL: &str = "deploy/latchkey.service.d/postgresql.conf";
const TLS: &str = "deploy/latchkey.service.d/tls.conf";

/// What a directive is set to, each time.
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
fn what_it_runs_and_sets_exists() {
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
fn its_user_can_read_the_certificate_that_a_reload_takes_up() {
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
    // A credential would be a copy of what was there at the start.
    assert!(all(TLS, "LoadCredential").is_empty());
}

#[test]
fn it_is_killed_only_after_it_had_its_time_to_stop() {
    let stop = Help::read().default_seconds("SHUTDOWN_SECONDS");
    assert!(seconds(&only("TimeoutStopSec")) >= stop + 5);
}

#[test]
fn it_writes_one_folder_in_which_the_database_is() {
    let folder = only("StateDirectory");
    assert_eq!(only("WorkingDirectory"), format!("%S/{folder}"));
    let database = Help::read().default_of("DATABASE_URL");
    let file = database
        .strip_prefix("sqlite://")
        .expect("the embedded database");
    assert!(
        !file.starts_with('/'),
        "it is below the working folder: {file}"
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

/// It also knows every directive.
#[test]
fn systemd_takes_it_and_finds_little_that_it_could_still_do() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        skip("systemd: its program systemd-analyze is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latchkey.service");
    // It looks whether the program is there, which nobody has installed here.
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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // What is wrong with units that others have installed is none of our business.
        let ours: Vec<_> = said
            .lines()
            .filter(|line| line.contains("latchkey"))
            .collect();
        assert!(
            output.status.success() && ours.is_empty(),
            "{arguments:?}: {said}"
        );
    };
    analyze(&["verify"]);
    // In tenths: 100 is as exposed as can be. Those that it counts still are network, and clock.
    analyze(&["security", "--offline=yes", "--threshold=20"]);
}
