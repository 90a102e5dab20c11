//! Wrappers around handlers.

mod access_log;
mod request_context;
mod require_api_key;

pub use request_context::request_context;
pub use require_api_key::RequireApiKey;
