//! Secrets from files: `JWT_SECRET_FILE` names a file that contains `JWT_SECRET`.
//!
//! Container engines and systemd pass secrets in this way. Every setting whose value is hidden has such a variable.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    path::Path,
};

use clap::Arg;

use super::environment::{Environment, normalized};
use crate::{config::file_name, server::StartError};

/// Maximum size of a file, in bytes, so that an endless file is not read.
const MAX_BYTES: u64 = 64 * 1024;

/// Returns the name of the variable that names the file of a setting, or `None` if the setting is not secret.
pub(super) fn variable(setting: &Arg) -> Option<String> {
    let variable = setting
        .get_env()
        .filter(|_| setting.is_hide_env_values_set());
    variable.map(|variable| format!("{}_FILE", variable.to_string_lossy()))
}

/// Secret that was read from a file.
pub(super) struct FromFile {
    /// Clap's id of the setting.
    pub(super) id: String,
    /// Name of the variable and the file, for errors.
    pub(super) name: String,
    pub(super) value: OsString,
}

/// Reads the file of a setting, if the variable that names it is set.
pub(super) fn read(
    setting: &Arg,
    environment: &Environment,
) -> Result<Option<FromFile>, StartError> {
    let Some(variable) = variable(setting) else {
        return Ok(None);
    };
    let Some(path) = environment.get(&variable).map(Path::new) else {
        return Ok(None);
    };
    let direct = variable.trim_end_matches("_FILE");
    if environment.get(direct).is_some() {
        return Err(StartError::Setting(format!(
            "{direct} and {variable} are both set; set only one of them"
        )));
    }
    path.to_str()
        .map_or(Ok(()), file_name::check)
        .map_err(|reason| StartError::Setting(format!("{variable} {reason}")))?;
    let name = format!("{variable} ({})", path.display());
    match content(path) {
        Ok(value) => Ok(Some(FromFile {
            id: setting.get_id().to_string(),
            name,
            value,
        })),
        Err(reason) => Err(StartError::Setting(format!("{name} {reason}"))),
    }
}

/// Returns the content of a file without the blanks at its ends, such as the line break that editors and `echo` append.
///
/// An empty file is an error, and does not count as not set: whoever mounts a file intends to provide a secret.
fn content(path: &Path) -> Result<OsString, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    normalized(OsStr::new(text))
        .ok_or_else(|| "is empty; write the secret into it, or unset the variable".to_owned())
}
