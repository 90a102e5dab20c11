//! Command line: the commands of `latchkey`, and how their settings are read.

mod admin;
mod backup;
mod copy;
mod env_file;
mod environment;
mod health;
mod migrate;
mod misspelt;
mod openapi;
mod probe;
mod secret_files;
mod serve;
mod settings;

use std::{io::Write as _, process::ExitCode};

use clap::{Args as _, CommandFactory as _, Parser, Subcommand};

use self::environment::Environment;
use crate::{config::Config, server::StartError};

/// Exit code for an invalid setting or argument.
const EXIT_USAGE: u8 = 2;

/// API key management: sign up, create keys, check them on every request, revoke them.
#[derive(Parser)]
#[command(name = "latchkey", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (default).
    Serve(Box<Config>),
    /// Migrate the database to this version, then exit.
    Migrate(migrate::Migrate),
    /// Print the OpenAPI document.
    Openapi,
    /// Grant or revoke the role `admin`.
    Admin(admin::Admin),
    /// Back up the embedded database into a file, also while the server runs.
    Backup(backup::Backup),
    /// Copy all data into an empty database, from SQLite to PostgreSQL or back.
    Copy(copy::Copy),
    /// Check the health of the running server.
    Health(health::Health),
}

/// Runs the program. Exits with 2 if a setting is invalid, and with 1 on any other failure.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln`, which panics if standard error is closed.
            let _ = writeln!(std::io::stderr(), "latchkey: {error}");
            match error {
                StartError::Setting(_) => ExitCode::from(EXIT_USAGE),
                StartError::Environment(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn run() -> Result<(), StartError> {
    let environment = Environment::read()?;
    let command = Cli::command().after_help(settings::help());
    let misspelt = misspelt::find(&environment, &settings::known(&command));
    let cli: Cli = settings::read(command, std::env::args_os().collect(), &environment)?;
    match cli.command {
        None => serve::run(&settings::of_serve(&environment)?, &misspelt),
        Some(Command::Serve(config)) => serve::run(&config, &misspelt),
        Some(Command::Migrate(options)) => migrate::run(&options, &misspelt),
        Some(Command::Openapi) => openapi::run(),
        Some(Command::Admin(options)) => admin::run(options),
        Some(Command::Backup(options)) => backup::run(&options),
        Some(Command::Copy(options)) => copy::run(options),
        Some(Command::Health(options)) => health::run(options),
    }
}

/// Reads the settings of `serve` for another program that embeds this crate: from its flags, the environment and
/// `.env`.
pub fn read_settings(program: &'static str) -> Result<Config, StartError> {
    let command = Config::augment_args(clap::Command::new(program));
    settings::read(
        command,
        std::env::args_os().collect(),
        &Environment::read()?,
    )
}
