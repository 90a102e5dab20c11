//! Documentation for operators: the settings, commands and files that it names exist.

use super::{Help, path, read, words};
use crate::support::program::run;

/// Names in the documentation that are not settings of latchkey.
const NOT_OURS: [&str; 3] = ["XDG_DATA_HOME", "POSTGRES_PASSWORD_FILE", "NAME"];

#[test]
fn env_example_names_existing_settings() {
    let help = Help::read();
    let text = read(".env.example");
    let mut found = 0;
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let Some((name, _)) = line.split_once('=') else {
            continue;
        };
        // Other lines are sentences.
        if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            help.assert_setting(name, ".env.example");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn operations_page_names_existing_settings_commands_and_files() {
    let help = Help::read();
    let page = read("docs/operations.md");
    let of_copy = run(&["copy", "--help"], &[]);
    let of_copy = words(&String::from_utf8(of_copy.stdout).unwrap());
    // Text between two backquotes, or between two lines of three backquotes, is code.
    for part in page.split('`').skip(1).step_by(2) {
        for word in words(part) {
            let is_name =
                word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            // Each secret setting has a variant with the suffix _FILE.
            let plain = word.strip_suffix("_FILE").unwrap_or(&word);
            let is_known = NOT_OURS.contains(&word.as_str()) || of_copy.contains(plain);
            if is_name && !is_known {
                help.assert_setting(&word, "docs/operations.md");
            }
        }
        for command in part.split("latchkey ").skip(1) {
            let is_letter = char::is_ascii_lowercase;
            let name: String = command.chars().take_while(is_letter).collect();
            if !name.is_empty() {
                help.assert_command(&name, "docs/operations.md");
            }
        }
    }
    for link in page.split("](").skip(1) {
        let target = link.split([')', '#']).next().unwrap();
        if !target.is_empty() && !target.contains("://") {
            assert!(path("docs").join(target).exists(), "{target}");
        }
    }
}
