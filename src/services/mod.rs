//! What a person does: rules and transactions. Each takes the parts it uses.

pub mod accounts;
pub mod api_keys;
pub mod audit;
pub mod caller;
mod password_attempts;
pub mod readiness;
pub mod roles;
pub mod usage;
pub mod users;
