//! Settings on the command line: reading, the list in `--help`, and error messages.

use std::{borrow::Cow, collections::BTreeSet, ffi::OsString};

use clap::{
    Arg, ArgMatches, Args as _, Command, FromArgMatches,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use super::{
    environment::{Environment, normalized},
    secret_files::{self, FromFile},
};
use crate::{config::Config, server::StartError};

/// Reads the settings of `serve` where no command is given: from the environment alone.
pub(super) fn of_serve(environment: &Environment) -> Result<Config, StartError> {
    read(serve_command(), vec!["latchkey".into()], environment)
}

/// Reads settings from the arguments, the environment, and the files that the environment names.
///
/// All sources are first converted into arguments of one form, before any value is interpreted. So the same rule about
/// blanks holds for each value, and the precedence of the sources is decided only here.
pub(super) fn read<T: FromArgMatches>(
    command: Command,
    arguments: Vec<OsString>,
    environment: &Environment,
) -> Result<T, StartError> {
    let mut named = command.clone();
    named.build();
    let typed = with_raw_values(command.clone())
        .try_get_matches_from(&arguments)
        .map_err(|error| {
            if is_request(&error) {
                show(command.clone(), &arguments);
            }
            explain(error, &named, &[])
        })?;
    let mut from_files = Vec::new();
    let arguments = collect(&named, &typed, arguments, environment, &mut from_files)?;
    let matches = without_environment(command).try_get_matches_from(arguments);
    matches
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| explain(error, &named, &from_files))
}

/// Converts everything that is set into arguments: the name of the command, then each setting as a flag.
fn collect(
    command: &Command,
    typed: &ArgMatches,
    arguments: Vec<OsString>,
    environment: &Environment,
    from_files: &mut Vec<FromFile>,
) -> Result<Vec<OsString>, StartError> {
    let mut words: Vec<OsString> = arguments.into_iter().take(1).collect();
    let (mut command, mut matches) = (command, typed);
    while let Some((name, below)) = matches.subcommand()
        && let Some(next) = command.find_subcommand(name)
    {
        words.push(name.into());
        (command, matches) = (next, below);
    }
    let mut positional = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let is_typed = matches.value_source(id) == Some(ValueSource::CommandLine);
        if !argument.get_action().takes_values() {
            words.extend(is_typed.then(|| flag(argument).into()));
            continue;
        }
        let typed = matches.get_raw(id).into_iter().flatten().last();
        let typed = typed.and_then(normalized);
        if argument.get_long().is_none() {
            positional.extend(typed);
            continue;
        }
        let variable = argument.get_env().and_then(|name| environment.get(name));
        let value = match (typed, variable) {
            // A flag takes precedence over the environment. A variable together with its file is an error.
            (Some(typed), _) => Some(typed),
            (None, variable) => match secret_files::read(argument, environment)? {
                Some(from_file) => {
                    let value = from_file.value.clone();
                    from_files.push(from_file);
                    Some(value)
                }
                None => variable.map(ToOwned::to_owned),
            },
        };
        if let Some(value) = value {
            let mut word = OsString::from(format!("{}=", flag(argument)));
            word.push(value);
            words.push(word);
        }
    }
    if !positional.is_empty() {
        words.push("--".into());
        words.extend(positional);
    }
    Ok(words)
}

/// Returns the command without validation, defaults and environment: every value is accepted as typed.
fn with_raw_values(command: Command) -> Command {
    without_environment(command)
        .mut_args(|argument| {
            if argument.get_action().takes_values() {
                argument
                    .value_parser(clap::value_parser!(OsString))
                    .default_value(Resettable::Reset)
                    .required(false)
            } else {
                argument
            }
        })
        .mut_subcommands(with_raw_values)
}

/// Returns the command without the environment as a source.
fn without_environment(command: Command) -> Command {
    command
        .mut_args(|argument| argument.env(Resettable::Reset))
        .mut_subcommands(without_environment)
}

/// Returns whether this is a request for the help or the version, and no error.
fn is_request(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    )
}

/// Prints the requested help or version, with defaults but without the values that are set: they may be secret.
fn show(command: Command, arguments: &[OsString]) {
    if let Err(error) = without_env_values(command).try_get_matches_from(arguments)
        && is_request(&error)
    {
        error.exit();
    }
}

fn without_env_values(command: Command) -> Command {
    command
        .mut_args(|argument| argument.hide_env_values(true))
        .mut_subcommands(without_env_values)
}

/// Returns the names of all variables that any command reads, including those that name files.
pub(super) fn known(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().flat_map(|argument| {
        let variable = argument.get_env().map(|name| name.to_string_lossy());
        variable
            .map(Cow::into_owned)
            .into_iter()
            .chain(secret_files::variable(argument))
    });
    let below = command.get_subcommands().flat_map(known);
    own.chain(below).collect()
}

/// Returns the list of all settings with their defaults, for `latchkey --help`.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Settings, as environment variables (also from a .env file) or as flags of `serve`. An empty value counts as\n\
         not set; blanks at either end of a value are ignored:\n",
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
                "\n  {file}\n      File that contains {variable}, as an alternative to it (no flag)"
            ));
        }
    }
    text
}

/// Returns an error of one line that names the setting and what is accepted, but not its value: it may be secret.
fn explain(error: clap::Error, command: &Command, from_files: &[FromFile]) -> StartError {
    if is_request(&error) {
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

/// Returns the setting that clap displays as `argument`, in this command or its subcommands.
fn find<'a>(command: &'a Command, argument: &str) -> Option<&'a Arg> {
    let mut own = command.get_arguments();
    own.find(|setting| setting.get_long().is_some() && setting.to_string() == *argument)
        .or_else(|| {
            command
                .get_subcommands()
                .find_map(|below| find(below, argument))
        })
}

/// Returns the possible values of a setting joined by `or`, if it has a fixed set of them.
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

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
