//! Secrets and what proves them: each kind a type of its own, redacted when printed.

pub mod api_key;
pub mod email;
pub mod password;
pub mod password_hasher;
pub mod token;
pub mod token_secret;
