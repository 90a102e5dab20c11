//! A connection to either database.

use diesel::result::{DatabaseErrorKind, Error};
use diesel::{MultiConnection, PgConnection, QueryResult, SqliteConnection};

/// A connection to the embedded database or to PostgreSQL.
#[derive(MultiConnection)]
pub enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// What a unique index says to an insert.
pub(crate) trait InsertResult<T> {
    /// `None` if the row would repeat what is unique.
    fn unless_taken(self) -> QueryResult<Option<T>>;
}

impl<T> InsertResult<T> for QueryResult<T> {
    fn unless_taken(self) -> QueryResult<Option<T>> {
        match self {
            Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(None),
            inserted => inserted.map(Some),
        }
    }
}
