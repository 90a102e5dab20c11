//! Environment variables, from the process and from `.env`. The process's own variables take precedence.
//!
//! One rule holds for every setting and every source: blanks at either end of a value are ignored, and an empty value
//! counts as not set.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use super::env_file::{self, Entry};
use crate::server::StartError;

/// All variables that are set.
#[derive(Debug, Default)]
pub(super) struct Environment {
    variables: BTreeMap<OsString, Variable>,
}

struct Variable {
    value: OsString,
    /// Line of `.env` that sets it; `None` if the process's environment does.
    line: Option<usize>,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variable([REDACTED])")
    }
}

impl Environment {
    /// Reads the process's environment and `.env`. The process's environment is not changed.
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
        // A later variable replaces an earlier one of the same name.
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

    /// Returns the value of a variable, if it is set.
    pub(super) fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let variable = self.variables.get(name.as_ref())?;
        Some(&variable.value)
    }

    /// Returns the names of all variables, each with the line of `.env` that sets it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        let variables = self.variables.iter();
        variables.filter_map(|(name, variable)| Some((name.to_str()?, variable.line)))
    }

    /// Returns whether the value of a variable looks like a URL.
    pub(super) fn holds_url(&self, name: &str) -> bool {
        let value = self.get(name).and_then(OsStr::to_str);
        value.is_some_and(|value| value.contains("://"))
    }
}

/// Returns a value without the blanks at its ends, or `None` if nothing is left.
pub(super) fn normalized(value: &OsStr) -> Option<OsString> {
    let value = match value.to_str() {
        Some(text) => text.trim_matches(is_blank).into(),
        None => OsString::from_vec(value.as_bytes().trim_ascii().to_vec()),
    };
    (!value.is_empty()).then_some(value)
}

/// Returns whether a character is a blank: a space, a tab, a line ending, or the byte order mark that some editors
/// write at the start.
pub(super) fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}
