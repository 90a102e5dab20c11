//! Rows and the queries on them, a file per table. They know SQL and no HTTP.

pub mod api_key;
pub mod user;
