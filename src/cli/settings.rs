//! The settings on the command line: how they are read, listed and complained about.

use std::ffi::OsString;

use clap::{
    Arg, ArgMatches, Args as _, Command, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::secret_files::{self, FromFile};
use crate::{core::config::Config, server::StartError};

/// Reads `.env` in the working folder, if there is one. What is set already stays.
pub(super) fn read_env_file() -> Result<(), StartError> {
    match dotenvy::from_path(".env") {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(dotenvy::Error::LineParse(line, _)) => {
            // Which line, not what it says: that may be a secret.
            let file = std::fs::read_to_string(".env").unwrap_or_default();
            let number = file.lines().position(|l| l.trim() == line.trim());
            let place = number.map_or_else(|| "a line".to_owned(), |n| format!("line {}", n + 1));
            Err(StartError::Setting(format!(
                ".env: cannot read {place}; write NAME=value, and quote a value with blanks"
            )))
        }
        Err(error) => Err(StartError::Setting(format!(".env: {error}"))),
    }
}

/// The settings of `serve` where no command is given: from the environment alone.
pub(super) fn of_serve() -> Result<Config, StartError> {
    read(serve_command(), vec!["latchkey".into()])
}

/// What the arguments, the environment and the files that it names say.
pub(super) fn read<T: FromArgMatches>(
    mut command: Command,
    mut arguments: Vec<OsString>,
) -> Result<T, StartError> {
    command.build();
    let parse = |arguments: &[OsString], from_files: &[FromFile]| {
        let matches = command.clone().try_get_matches_from(arguments);
        matches.map_err(|error| explain(error, &command, from_files))
    };
    let mut matches = parse(&arguments, &[])?;
    let (chosen, given, depth) = chosen(&command, &matches);
    let from_files = secret_files::flags(chosen, given)?;
    if !from_files.is_empty() {
        let flags = from_files.iter().map(|from_file| from_file.flag.clone());
        // Behind the command's name, where no `--` makes them anything else.
        arguments.splice(depth..depth, flags);
        matches = parse(&arguments, &from_files)?;
    }
    T::from_arg_matches(&matches).map_err(|error| explain(error, &command, &from_files))
}

/// The command that was chosen, what is said to it, and how many words name it.
fn chosen<'a>(
    mut command: &'a Command,
    mut matches: &'a ArgMatches,
) -> (&'a Command, &'a ArgMatches, usize) {
    let mut words = 1;
    while let Some((name, rest)) = matches.subcommand() {
        let Some(next) = command.find_subcommand(name) else {
            break;
        };
        (command, matches, words) = (next, rest, words + 1);
    }
    (command, matches, words)
}

/// Every setting with its default, for `latchkey --help`.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Settings, as environment variables (a .env file is read) or as flags of `serve`:\n",
    );
    for setting in serve_command().get_arguments() {
        let (Some(variable), Some(help)) = (setting.get_env(), setting.get_help()) else {
            continue;
        };
        let default = setting
            .get_default_values()
            .first()
            .filter(|value| !value.is_empty())
            .map(|value| format!(" [default: {}]", value.to_string_lossy()))
            .unwrap_or_default();
        let values = choices(setting).map_or_else(String::new, |names| format!(" [{names}]"));
        let variable = variable.to_string_lossy();
        text.push_str(&format!("\n  {variable}\n      {help}{values}{default}"));
        if let Some(file) = secret_files::variable(setting) {
            text.push_str(&format!(
                "\n  {file}\n      File that holds {variable}, in place of it (no flag)"
            ));
        }
    }
    text
}

/// One line that names the setting and says what would do, never its value: it may be a secret.
fn explain(error: clap::Error, command: &Command, from_files: &[FromFile]) -> StartError {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    ) {
        error.exit();
    }
    if let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) {
        return StartError::Setting(format!("needs {}", missing.join(" and ")));
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return StartError::Setting(first_line(&error.to_string()));
    };
    let Some(setting) = find(command, argument) else {
        return StartError::Setting(first_line(&error.to_string()));
    };
    let from_file = from_files
        .iter()
        .find(|file| file.id == setting.get_id().as_str());
    let name = match (from_file, setting.get_env()) {
        (Some(file), _) => file.name.clone(),
        (None, Some(variable)) => format!("{} ({})", variable.to_string_lossy(), flag(setting)),
        (None, None) => flag(setting),
    };
    let problem = match (error.kind(), std::error::Error::source(&error)) {
        (_, Some(source)) => source.to_string(),
        (ErrorKind::InvalidValue, None) => match choices(setting) {
            Some(names) => format!("must be {names}"),
            None => "needs a value".to_owned(),
        },
        _ => first_line(&error.to_string()),
    };
    StartError::Setting(format!("{name} {problem}"))
}

fn serve_command() -> Command {
    let mut command = Config::augment_args(Command::new("serve"));
    command.build();
    command
}

/// The setting that clap calls so, of this command or one below it.
fn find<'a>(command: &'a Command, argument: &str) -> Option<&'a Arg> {
    let mut own = command.get_arguments();
    own.find(|setting| setting.get_long().is_some() && setting.to_string() == *argument)
        .or_else(|| {
            command
                .get_subcommands()
                .find_map(|below| find(below, argument))
        })
}

/// The values of a setting that has a fixed few, as a person lists them.
fn choices(setting: &Arg) -> Option<String> {
    let values = setting.get_possible_values();
    let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}

fn flag(setting: &Arg) -> String {
    format!("--{}", setting.get_long().unwrap_or_default())
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
