//! Strict parser of `.env`: one `NAME=value` per line.
//!
//! Values are literal: nothing is expanded in them, not even `$`. The same file is read by systemd
//! (`EnvironmentFile=`), Docker Compose (`env_file:`), `docker run --env-file` and shells. These programs disagree
//! about quotes, backslashes and comments after a value. A line that two of them would read differently is rejected,
//! so that instances never differ in a secret without notice.

use std::{fs::File, io::Read as _};

use super::environment::is_blank;
use crate::server::StartError;

/// Maximum size of the file, in bytes, so that an endless file is not read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Line that sets a variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: String,
    /// Line number, counted from 1.
    pub(super) line: usize,
}

/// Reason why a line is invalid. The text never contains the line: it may be a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BadLine {
    #[error("is not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    #[error("contains an invisible control character; remove it")]
    Control,
    #[error("is not NAME=value with a name of letters, digits and `_`")]
    NoName,
    #[error(
        "has quotes, a backslash or ` #` in an unquoted value; write NAME='value', and a comment on a line of its own"
    )]
    Unquoted,
    #[error("has an unclosed quote, or text after the closing quote; write NAME='value'")]
    Quotes,
    #[error("has a backslash that other programs read differently; write NAME='value'")]
    Backslash,
    #[error("sets the same variable as line {0}; remove one of them")]
    Twice(usize),
}

/// Reads `.env` in the working directory, if there is one.
pub(super) fn read() -> Result<Vec<Entry>, StartError> {
    let unreadable =
        |error: std::io::Error| StartError::Setting(format!(".env cannot be read: {error}"));
    let file = match File::open(".env") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(StartError::Setting(format!(
            ".env is larger than {MAX_BYTES} bytes"
        )));
    }
    parse(&bytes)
        .map_err(|(line, reason)| StartError::Setting(format!(".env: line {line} {reason}")))
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, (usize, BadLine)> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        let parsed = parse_line(bytes).map_err(|reason| (line, reason))?;
        let Some((name, value)) = parsed else {
            continue;
        };
        if let Some(first) = entries.iter().find(|entry| entry.name == name) {
            return Err((line, BadLine::Twice(first.line)));
        }
        entries.push(Entry { name, value, line });
    }
    Ok(entries)
}

/// Returns the name and the value that a line sets, or `None` for a comment or an empty line.
fn parse_line(bytes: &[u8]) -> Result<Option<(String, String)>, BadLine> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadLine::NotUtf8)?;
    // A byte order mark and the `\r` of a `\r\n` line ending are blanks, too.
    let text = text.trim_matches(is_blank);
    if text.is_empty() || text.starts_with(['#', ';']) {
        return Ok(None);
    }
    if text.contains(|character: char| character.is_control() && character != '\t') {
        return Err(BadLine::Control);
    }
    let exported = text.strip_prefix("export");
    let text = exported
        .filter(|rest| rest.starts_with(is_blank))
        .map_or(text, |rest| rest.trim_start_matches(is_blank));
    let (name, value) = text.split_once('=').ok_or(BadLine::NoName)?;
    let name = name.trim_end_matches(is_blank);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(BadLine::NoName);
    }
    let value = unquote(value.trim_start_matches(is_blank))?;
    Ok(Some((name.to_owned(), value)))
}

fn unquote(value: &str) -> Result<String, BadLine> {
    if let Some(rest) = value.strip_prefix('\'') {
        return match rest.split_once('\'') {
            Some((value, "")) => Ok(value.to_owned()),
            _ => Err(BadLine::Quotes),
        };
    }
    if let Some(rest) = value.strip_prefix('"') {
        return within_double_quotes(rest);
    }
    let has_comment = value.starts_with('#')
        || value
            .split('#')
            .rev()
            .skip(1)
            .any(|before| before.ends_with(is_blank));
    if has_comment || value.contains(['"', '\'', '`', '\\']) {
        return Err(BadLine::Unquoted);
    }
    Ok(value.to_owned())
}

/// Returns the value up to the closing quote. A backslash escapes the characters that it escapes in both a shell and
/// systemd.
fn within_double_quotes(rest: &str) -> Result<String, BadLine> {
    let mut value = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next() {
            None => return Err(BadLine::Quotes),
            Some('"') => break,
            Some('\\') => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
                _ => return Err(BadLine::Backslash),
            },
            Some(plain) => value.push(plain),
        }
    }
    match characters.next() {
        None => Ok(value),
        Some(_) => Err(BadLine::Quotes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_read_as_it_is_written() {
        for (line, value) in [
            ("A=abc$def", "abc$def"),
            ("A=${HOME}/$x$$", "${HOME}/$x$$"),
            ("A='abc$def'", "abc$def"),
            ("A=\"abc$def\"", "abc$def"),
            ("A=\"a\\\"b\\\\c\\$d\\`e\"", "a\"b\\c$d`e"),
            ("A='a\\nb \"c\" #d'", "a\\nb \"c\" #d"),
            ("A=a#b=c", "a#b=c"),
            ("A=a b", "a b"),
            ("A=", ""),
            ("A=''", ""),
            ("  A = b\t\r", "b"),
            ("export A=b", "b"),
            ("export\tA=b", "b"),
            ("\u{feff}A=b", "b"),
            ("A=größe", "größe"),
        ] {
            let expected = Entry {
                name: "A".to_owned(),
                value: value.to_owned(),
                line: 1,
            };
            assert_eq!(parse(line.as_bytes()), Ok(vec![expected]), "{line}");
        }
        assert_eq!(parse(b"\r\n# A=b\r\n; A=b\n\n"), Ok(Vec::new()));
    }

    #[test]
    fn line_that_programs_read_differently_is_rejected_with_its_number() {
        for (line, reason) in [
            (&b"A"[..], BadLine::NoName),
            (b"A: b", BadLine::NoName),
            (b"=b", BadLine::NoName),
            (b"1A=b", BadLine::NoName),
            (b"A-B=c", BadLine::NoName),
            (b"export A", BadLine::NoName),
            (b"exportA", BadLine::NoName),
            (b"A=b # c", BadLine::Unquoted),
            (b"A=# c", BadLine::Unquoted),
            (b"A=b\\n", BadLine::Unquoted),
            (b"A=b\"c\"", BadLine::Unquoted),
            (b"A=it's", BadLine::Unquoted),
            (b"A='b", BadLine::Quotes),
            (b"A='b'c", BadLine::Quotes),
            (b"A=\"b\" # c", BadLine::Quotes),
            (b"A=\"b", BadLine::Quotes),
            (b"A=\"b\\n\"", BadLine::Backslash),
            (b"A=b\rC=d", BadLine::Control),
            (b"A=b\0", BadLine::Control),
            (b"A=\xff", BadLine::NotUtf8),
            (b"\xff\xfeA\0", BadLine::NotUtf8),
        ] {
            let file = [b"FIRST=1\n", line].concat();
            assert_eq!(parse(&file), Err((2, reason)), "{}", line.escape_ascii());
        }
        assert_eq!(parse(b"A=1\nB=2\nexport A=1"), Err((3, BadLine::Twice(1))));
    }
}
