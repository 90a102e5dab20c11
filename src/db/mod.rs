//! Access to the database: SQLite or PostgreSQL, behind one interface.
//!
//! Queries are written once. Callers of this module need not know which database is in use.

pub mod backup;
mod changes;
mod claim;
mod conn;
pub mod copy;
mod deadline;
mod embedded;
mod files;
mod interrupt;
mod manager;
pub mod migrations;
pub(crate) mod notifications;
mod pool;
mod postgres;
pub(crate) mod schema;
mod slow_wait;
mod types;
mod writable;
mod write_proof;

pub use claim::{Claim, ClaimError};
pub use conn::{Aborted, Conn};
pub(crate) use conn::{InsertResult, for_update};
pub use manager::ConnectError;
pub use pool::{Db, PoolUsage};
pub use postgres::PoolerError;
pub use writable::NotWritable;
pub use write_proof::WriteFailure;
