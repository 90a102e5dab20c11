//! `latchkey serve`, which also runs when no command is given.

use super::misspelt::{self, Misspelt};
use crate::{
    config::Config,
    domain::clock::Clock,
    server::{self, Server, StartError},
    telemetry::{logs, traces},
};

/// Lowest bcrypt cost that still slows down the guessing of passwords.
const LOWEST_SAFE_COST: u32 = 10;

pub(super) fn run(config: &Config, misspelt: &[Misspelt]) -> Result<(), StartError> {
    // Dropped last, so that a failed export of the last traces is logged.
    let _logs = logs::start(&config.log);
    misspelt::warn(misspelt);
    let _traces =
        traces::start(&config.telemetry).map_err(|error| StartError::Setting(error.to_string()))?;
    if config.bcrypt_cost < LOWEST_SAFE_COST {
        tracing::warn!(
            cost = config.bcrypt_cost,
            "BCRYPT_COST is below {LOWEST_SAFE_COST}: use such a cost in tests only"
        );
    }
    server::ignore_harmless_signals()
        .map_err(|error| StartError::Environment(error.to_string()))?;
    let server = Server::prepare(config, Clock::default())?;
    server
        .run_until_signalled()
        .map_err(|error| StartError::Environment(error.to_string()))
}
