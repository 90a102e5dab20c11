//! Settings that are secrets, from files: `JWT_SECRET_FILE` names one whose content is `JWT_SECRET`, as
//! container engines and systemd hand over secrets. So has every setting whose value is not shown.

use std::{ffi::OsString, fs::File, io::Read as _, path::PathBuf};

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use crate::server::StartError;

/// More than any secret, so that nothing endless is read.
const MAX_BYTES: u64 = 64 * 1024;

/// The setting's twin that names a file, if it has one.
pub(super) fn variable(setting: &Arg) -> Option<String> {
    let variable = setting
        .get_env()
        .filter(|_| setting.is_hide_env_values_set());
    variable.map(|variable| format!("{}_FILE", variable.to_string_lossy()))
}

/// Flags for `command` with what the files hold, for those of its secrets that are given so: the name of
/// the setting, the file and the flag. The environment itself is left as it is.
pub(super) fn flags(command: &Command, matches: &ArgMatches) -> Result<Vec<FromFile>, StartError> {
    let mut flags = Vec::new();
    for setting in command.get_arguments() {
        let Some(variable) = variable(setting) else {
            continue;
        };
        let (Some(path), Some(long)) = (std::env::var_os(&variable), setting.get_long()) else {
            continue;
        };
        let given = matches.value_source(setting.get_id().as_str());
        match given {
            // A flag comes before the environment.
            Some(ValueSource::CommandLine) => continue,
            Some(ValueSource::EnvVariable) => {
                let own = variable.trim_end_matches("_FILE");
                return Err(StartError::Setting(format!(
                    "{own} and {variable} are both set; set one of them"
                )));
            }
            _ => {}
        }
        let path = PathBuf::from(path);
        let content = read(&path)
            .map_err(|why| StartError::Setting(format!("{variable} ({}) {why}", path.display())))?;
        let mut flag = OsString::from(format!("--{long}="));
        flag.push(content);
        flags.push(FromFile {
            id: setting.get_id().to_string(),
            name: format!("{variable} ({})", path.display()),
            flag,
        });
    }
    Ok(flags)
}

/// A secret that was read.
pub(super) struct FromFile {
    /// Clap's name of the setting.
    pub(super) id: String,
    /// What to call it when it is no good.
    pub(super) name: String,
    pub(super) flag: OsString,
}

/// The content without the newline that editors and `echo` put at its end.
fn read(path: &PathBuf) -> Result<String, String> {
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
    let mut text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
