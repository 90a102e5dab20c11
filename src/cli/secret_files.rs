//! Settings that are secrets, from files: `JWT_SECRET_FILE` names one whose content is `JWT_SECRET`, as
//! container engines and systemd hand over secrets. So has every setting whose value is not shown.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    path::Path,
};

use clap::Arg;

use super::environment::{Environment, normalized};
use crate::{config::file_name, server::StartError};

/// More than any secret, so that nothing endless is read.
const MAX_BYTES: u64 = 64 * 1024;

/// The setting's twin that names a file, if it has one.
pub(super) fn variable(setting: &Arg) -> Option<String> {
    let variable = setting
        .get_env()
        .filter(|_| setting.is_hide_env_values_set());
    variable.map(|variable| format!("{}_FILE", variable.to_string_lossy()))
}

/// A secret that was read.
pub(super) struct FromFile {
    /// Clap's name of the setting.
    pub(super) id: String,
    /// What to call it when it is no good.
    pub(super) name: String,
    pub(super) value: OsString,
}

/// Returns the content of the file that the setting's twin names, if that is set.
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
    let own = variable.trim_end_matches("_FILE");
    if environment.get(own).is_some() {
        return Err(StartError::Setting(format!(
            "{own} and {variable} are both set; set one of them"
        )));
    }
    path.to_str()
        .map_or(Ok(()), file_name::check)
        .map_err(|why| StartError::Setting(format!("{variable} {why}")))?;
    let name = format!("{variable} ({})", path.display());
    match content(path) {
        Ok(value) => Ok(Some(FromFile {
            id: setting.get_id().to_string(),
            name,
            value,
        })),
        Err(why) => Err(StartError::Setting(format!("{name} {why}"))),
    }
}

/// The content without the blanks at its ends, of which editors and `echo` put one there. An empty file is
/// no setting that is left out: whoever mounts a file means to give a secret.
fn content(path: &Path) -> Result<OsString, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(cannot)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    normalized(OsStr::new(text))
        .ok_or_else(|| "is empty; write the secret into it, or do not set the variable".to_owned())
}
