//! What a request with an API key goes through.

pub mod cache;
#[cfg(test)]
mod cache_tests;
mod check_meter;
pub mod coherence;
pub mod engine;
mod guard;
pub mod known_key;
mod last_used;
pub mod limits;
mod lookup;
mod memory;
mod refusal;
mod sync;
mod unwritten;
pub mod usage;
pub mod watch;
