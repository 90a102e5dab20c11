//! One code base on two databases. Nothing above this room asks which one it is on.

mod claim;
mod conn;
mod manager;
pub mod migrations;
pub(crate) mod notifications;
mod pool;
pub(crate) mod schema;
mod types;

pub use claim::{Claim, ClaimError};
pub use conn::{Aborted, Conn};
pub(crate) use conn::{InsertResult, for_update};
pub use manager::ConnectError;
pub use pool::Db;
