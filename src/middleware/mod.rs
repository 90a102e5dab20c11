//! Middleware: wrappers around handlers.

mod access_log;
mod browser_policy;
mod request_context;
mod request_metrics;
mod require_api_key;
mod server_span;
mod sliced_body;

pub use browser_policy::BrowserPolicy;
pub use request_context::request_context;
pub use request_metrics::{RequestMeter, Requests};
pub use require_api_key::RequireApiKey;
