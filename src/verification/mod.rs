//! Verification of API keys: the hot path, and the protocol that keeps the caches of all instances coherent.

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
mod unwritten_usage;
pub mod usage;
pub mod watch;
