//! What every other room may use and which itself knows none of them.

pub mod boot_clock;
pub mod clock;
pub mod config;
pub mod connections;
pub mod conversation;
pub mod database_url;
pub mod error;
pub mod file_name;
pub mod id;
pub mod json_object;
pub mod limit;
pub mod merge_patch;
pub mod meter;
pub mod network;
pub mod permission;
pub mod postgres_url;
pub mod probe;
pub mod scope;
pub mod security;
pub mod slow_wait;
pub mod spans;
pub mod stopping;
pub mod telemetry;
pub(crate) mod text;
pub mod turns;
pub mod usage;
