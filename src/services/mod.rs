//! Use cases: business rules and their transactions, one module per resource. Each holds only the handles it uses.

pub mod accounts;
pub mod api_keys;
pub mod audit;
pub mod caller;
mod password_attempts;
pub mod readiness;
pub mod roles;
pub mod usage;
pub mod users;
