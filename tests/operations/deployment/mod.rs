//! Deployment files and documentation: each path, command, setting and port that they name exists.

mod compose;
mod dockerfile;
mod documents;
mod hardening;
mod nginx;
mod secrets;
mod unit;

use std::{collections::BTreeSet, fs, path::PathBuf};

pub use self::{
    compose::{Compose, SECRETS},
    secrets::make_secrets,
};
use crate::support::program::run;

/// Returns the absolute path of a file in the repository.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Settings and commands that `latchkey --help` lists.
pub struct Help {
    text: String,
    settings: BTreeSet<String>,
    commands: BTreeSet<String>,
}

impl Help {
    pub fn read() -> Self {
        let output = run(&["--help"], &[]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let commands = text.split("Commands:\n").nth(1).unwrap();
        let commands = commands.split("\n\n").next().unwrap();
        let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
        Self {
            commands: commands.lines().filter_map(first_word).collect(),
            settings: words(&text).into_iter().filter(|w| is_setting(w)).collect(),
            text,
        }
    }

    #[track_caller]
    pub fn assert_setting(&self, name: &str, file: &str) {
        assert!(
            self.settings.contains(name),
            "{file}: there is no setting {name}"
        );
    }

    #[track_caller]
    pub fn assert_command(&self, name: &str, file: &str) {
        assert!(
            self.commands.contains(name),
            "{file}: there is no command {name}"
        );
    }

    /// Returns the default value of a setting.
    #[track_caller]
    pub fn default_of(&self, name: &str) -> String {
        let entry = self.text.split(&format!("\n  {name}\n")).nth(1);
        let line = entry.and_then(|entry| entry.lines().next());
        let default = line.and_then(|line| line.split("[default: ").nth(1));
        let default = default.and_then(|rest| rest.split(']').next());
        default
            .unwrap_or_else(|| panic!("{name} has no default"))
            .to_owned()
    }

    #[track_caller]
    pub fn default_seconds(&self, name: &str) -> u64 {
        self.default_of(name).parse().expect("seconds")
    }
}

/// Returns the words of a text: letters, digits and underscores.
pub fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map(str::to_owned)
        .collect()
}

fn is_setting(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && !word.chars().any(|c| c.is_ascii_lowercase())
}

/// Parses a duration: `20s`, `2m`, or a plain number of seconds.
pub fn seconds(text: &str) -> u64 {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("a time: {text}"));
    number * unit
}
