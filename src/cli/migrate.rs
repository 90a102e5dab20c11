//! `latchkey migrate`: as `serve` does at its start, for those who want it apart.

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
