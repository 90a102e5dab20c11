//! Validation of file paths in settings.
//!
//! Paths that are most likely a mistake are rejected. Opening them would create another, empty file, or look for a
//! file that never exists.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};

/// Reason why a path was rejected. The text never contains the path: it may be part of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnlikelyName {
    #[error(
        "contains an invisible character, such as a line break or a zero-width space; remove it"
    )]
    Invisible,
    #[error("contains `~`, which only a shell expands; write the folder out, such as /home/ada")]
    Home,
    #[error("contains a `$` variable, which is not expanded here; write its value out")]
    Variable,
    #[error("is a Windows path; write a Unix path, such as /data/latchkey.db")]
    Windows,
    #[error("has a blank at the start or end of a folder or file name; remove it")]
    Blank,
    #[error("has quotes around it, which would be part of the name; write it without quotes")]
    Quoted,
    #[error("is a URL; give the path of a file, such as /data/latchkey.db")]
    Url,
}

/// Returns whether a character is invisible and there by mistake: a control character, a zero-width character, or one
/// that changes the direction of text.
pub(crate) fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

/// Rejects a path that is most likely a mistake.
pub(crate) fn check(path: &str) -> Result<(), UnlikelyName> {
    let mut names = path.split('/');
    let first = names.clone().next().unwrap_or_default();
    let begins_variable =
        |rest: &str| rest.starts_with(|c: char| c.is_alphabetic() || "_{(".contains(c));
    let has_drive = |path: &str| {
        let bytes = path.as_bytes();
        bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
    };
    let is_quoted = |quote: char| path.starts_with(quote) || path.ends_with(quote);
    if path.contains(is_invisible) {
        Err(UnlikelyName::Invisible)
    } else if is_quoted('"') || is_quoted('\'') {
        Err(UnlikelyName::Quoted)
    } else if path.contains("://") {
        Err(UnlikelyName::Url)
    } else if first.starts_with('~') || names.any(|name| name == "~") {
        Err(UnlikelyName::Home)
    } else if path.split('$').skip(1).any(begins_variable) {
        Err(UnlikelyName::Variable)
    } else if path.contains('\\') || has_drive(path.trim_start_matches('/')) {
        Err(UnlikelyName::Windows)
    } else if path.split('/').any(|name| name.trim() != name) {
        Err(UnlikelyName::Blank)
    } else {
        Ok(())
    }
}

/// Returns a parser for a setting that is the path of a file.
pub(crate) fn file_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        // A path that is not UTF-8 was not typed by a person, so it is no typing mistake.
        path.to_str().map_or(Ok(()), check).map(|()| path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_path_is_accepted() {
        for path in [
            "data/latchkey.db",
            "/var/lib/latchkey/latchkey.db",
            "../latchkey.db",
            "/Users/ada/Library/Application Support/latchkey.db",
            "./~latchkey.db",
            "latchkey.db~",
            "a$/5$.db",
            "größe/キー.db",
            "tenant:1.db",
            "file:copy?mode=memory",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn implausible_path_is_rejected() {
        for (path, why) in [
            ("data/x.db\r", UnlikelyName::Invisible),
            ("data/x\n.db", UnlikelyName::Invisible),
            ("data/\u{200b}x.db", UnlikelyName::Invisible),
            ("~/x.db", UnlikelyName::Home),
            ("~ada/x.db", UnlikelyName::Home),
            ("/~/x.db", UnlikelyName::Home),
            ("$HOME/x.db", UnlikelyName::Variable),
            ("${HOME}/x.db", UnlikelyName::Variable),
            ("/data/$(hostname).db", UnlikelyName::Variable),
            ("C:\\data\\x.db", UnlikelyName::Windows),
            ("C:/data/x.db", UnlikelyName::Windows),
            ("/C:/data/x.db", UnlikelyName::Windows),
            ("data\\x.db", UnlikelyName::Windows),
            (" data/x.db", UnlikelyName::Blank),
            ("data /x.db", UnlikelyName::Blank),
            ("data/ x.db", UnlikelyName::Blank),
            ("\"data/x.db\"", UnlikelyName::Quoted),
            ("'data/x.db'", UnlikelyName::Quoted),
            ("sqlite://data/x.db", UnlikelyName::Url),
            ("file:///data/x.db", UnlikelyName::Url),
        ] {
            assert_eq!(check(path), Err(why), "{path:?}");
        }
    }
}
