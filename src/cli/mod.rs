//! The command line.

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

/// A setting or an argument is wrong.
const USAGE: u8 = 2;

/// API key management: sign up, create keys, check them on every request, revoke them.
#[derive(Parser)]
#[command(name = "latchkey", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default).
    Serve(Box<Config>),
    /// Bring the database up to date, and nothing else.
    Migrate(migrate::Migrate),
    /// Print the OpenAPI document.
    Openapi,
    /// Make somebody an admin, or take it back.
    Admin(admin::Admin),
    /// Copy the embedded database into a file, while it is served.
    Backup(backup::Backup),
    /// Copy everything into an empty database, from SQLite to PostgreSQL or back.
    Copy(copy::Copy),
    /// Ask the running server whether it is well.
    Health(health::Health),
}

/// Runs the program. The exit code is 2 for a bad setting, 1 for whatever else stops it.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln`, which panics if nobody reads it any more.
            let _ = writeln!(std::io::stderr(), "latchkey: {error}");
            match error {
                StartError::Setting(_) => ExitCode::from(USAGE),
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

/// The settings of `serve` for a program of one's own: from its flags, the environment and `.env`.
pub fn settings_of(program: &'static str) -> Result<Config, StartError> {
    let command = Config::augment_args(clap::Command::new(program));
    settings::read(
        command,
        std::env::args_os().collect(),
        &Environment::read()?,
    )
}
