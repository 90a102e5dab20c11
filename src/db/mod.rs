//! One code base on two databases. Nothing above this room asks which one it is on.

mod conn;
mod manager;
pub mod migrations;
mod pool;
pub(crate) mod schema;
mod types;

pub use conn::{Aborted, Conn};
pub(crate) use conn::{InsertResult, first_for_update};
pub use manager::ConnectError;
pub use pool::Db;
