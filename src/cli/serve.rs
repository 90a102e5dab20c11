//! `latchkey serve`, and `latchkey` alone.

use super::misspelt::{self, Misspelt};
use crate::{
    config::Config,
    domain::clock::Clock,
    server::{self, Server, StartError},
    telemetry::{logs, traces},
};

/// Below this bcrypt is too quick to keep anybody from guessing.
const LOWEST_SAFE_COST: u32 = 10;

pub(super) fn run(config: &Config, misspelt: &[Misspelt]) -> Result<(), StartError> {
    // Dropped last: what becomes of traces at the end is logged.
    let _logs = logs::start(&config.log);
    misspelt::warn(misspelt);
    let _traces =
        traces::start(&config.telemetry).map_err(|error| StartError::Setting(error.to_string()))?;
    if config.bcrypt_cost < LOWEST_SAFE_COST {
        tracing::warn!(
            cost = config.bcrypt_cost,
            "BCRYPT_COST is below {LOWEST_SAFE_COST}: for tests only"
        );
    }
    server::survive_harmless().map_err(|error| StartError::Environment(error.to_string()))?;
    let server = Server::prepare(config, Clock::default())?;
    server
        .run_until_signalled()
        .map_err(|error| StartError::Environment(error.to_string()))
}
