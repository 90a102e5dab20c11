//! What every other room may use and which itself knows none of them.

pub mod clock;
pub mod config;
pub mod database_url;
pub mod error;
pub mod id;
pub mod security;
pub mod telemetry;
pub mod turns;
