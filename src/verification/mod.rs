//! What a request with an API key goes through.

pub mod engine;
pub mod last_used;
