//! What a person does: rules and transactions. Each takes the parts it uses.

pub mod accounts;
pub mod api_keys;
mod login_attempts;
