//! The sources of settings besides flags: the environment, and `.env` below it.
//!
//! One rule for all of them, wherever they are set: blanks at the ends of a value do not count, and a value
//! of which nothing is left is not set.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use super::env_file::{self, Entry};
use crate::server::StartError;

/// Every variable that is set.
#[derive(Debug, Default)]
pub(super) struct Environment {
    variables: BTreeMap<OsString, Variable>,
}

struct Variable {
    value: OsString,
    /// The line of `.env` that sets it.
    line: Option<usize>,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variable([REDACTED])")
    }
}

impl Environment {
    /// The process's, with what `.env` adds. The process's own environment is left as it is.
    pub(super) fn read() -> Result<Self, StartError> {
        Ok(Self::of(std::env::vars_os(), env_file::read()?))
    }

    pub(super) fn of(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        file: impl IntoIterator<Item = Entry>,
    ) -> Self {
        let of_file = file.into_iter().map(|entry| {
            let variable = (entry.name.into(), entry.value.into());
            (variable, Some(entry.line))
        });
        let of_process = variables.into_iter().map(|variable| (variable, None));
        // The later one stays.
        let variables = of_file
            .chain(of_process)
            .filter_map(|((name, value), line)| {
                let value = normalized(&value)?;
                Some((name, Variable { value, line }))
            });
        Self {
            variables: variables.collect(),
        }
    }

    /// The value of a variable that is set.
    pub(super) fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let variable = self.variables.get(name.as_ref())?;
        Some(&variable.value)
    }

    /// The names of those that are set, and the line of `.env` that sets it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        let variables = self.variables.iter();
        variables.filter_map(|(name, variable)| Some((name.to_str()?, variable.line)))
    }

    /// Returns whether a variable holds the URL of something.
    pub(super) fn holds_url(&self, name: &str) -> bool {
        let value = self.get(name).and_then(OsStr::to_str);
        value.is_some_and(|value| value.contains("://"))
    }
}

/// A value without the blanks at its ends, if that leaves anything.
pub(super) fn normalized(value: &OsStr) -> Option<OsString> {
    let value = match value.to_str() {
        Some(text) => text.trim_matches(is_blank).into(),
        None => OsString::from_vec(value.as_bytes().trim_ascii().to_vec()),
    };
    (!value.is_empty()).then_some(value)
}

/// Spaces, tabs, ends of lines, and the byte order mark that some editors put first.
pub(super) fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}
