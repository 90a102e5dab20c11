//! What a request with an API key goes through.

pub mod cache;
#[cfg(test)]
mod cache_tests;
pub mod cached_key;
mod check_counters;
pub mod coherence;
pub mod engine;
mod guard;
mod key_cache;
mod last_used;
pub mod limits;
mod lookup;
mod rejection;
mod sync;
mod unwritten;
pub mod usage;
pub mod watch;
