//! `latchkey migrate`: runs the migrations that `serve` runs when it starts, as a separate step.

use clap::Args;

use super::misspelt::{self, Misspelt};
use crate::{
    config::{DatabaseConfig, LogConfig},
    server::{self, StartError},
    telemetry::logs,
};

#[derive(Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    log: LogConfig,
}

pub(super) fn run(options: &Migrate, misspelt: &[Misspelt]) -> Result<(), StartError> {
    let _logs = logs::start(&options.log);
    misspelt::warn(misspelt);
    server::migrate(&options.database.url)
}
