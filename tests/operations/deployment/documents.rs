//! What is written for people names settings, commands and files that exist.

use super::{Help, path, read, words};
use crate::support::program::run;

/// Those of others.
const NOT_OURS: [&str; 3] = ["XDG_DATA_HOME", "POSTGRES_PASSWORD_FILE", "NAME"];

#[test]
fn every_setting_in_the_example_exists() {
    let help = Help::read();
    let text = read(".env.example");
    let mut found = 0;
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let Some((name, _)) = line.split_once('=') else {
            continue;
        };
        // Otherwise it is a sentence.
        if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            help.assert_setting(name, ".env.example");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn what_the_page_on_operation_names_is_there() {
    let help = Help::read();
    let page = read("docs/operations.md");
    let of_copy = run(&["copy", "--help"], &[]);
    let of_copy = words(&String::from_utf8(of_copy.stdout).unwrap());
    // What stands between one of them and the next, or between three and three, is code.
    for part in page.split('`').skip(1).step_by(2) {
        for word in words(part) {
            let is_name =
                word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            // Each secret may come from a file.
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
