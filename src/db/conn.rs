//! A connection to either database.

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::{Connection, MultiConnection, PgConnection, QueryResult, SqliteConnection};

use crate::domain::error::Error;

/// A connection to the embedded database or to PostgreSQL.
#[derive(MultiConnection)]
pub enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

type Transactions = <Conn as Connection>::TransactionManager;

/// Why a transaction was rolled back.
#[derive(Debug)]
pub enum Aborted {
    /// The database did not do what it was asked.
    Query(QueryError),
    /// A rule says no.
    Refused(Error),
}

impl From<QueryError> for Aborted {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Error> for Aborted {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Conn {
    /// Makes changes in one transaction: all of them, or none if any fails.
    ///
    /// On SQLite it begins with the right to write. One that begins by reading cannot get it any more
    /// once somebody else has written in between.
    pub fn write<T>(
        &mut self,
        changes: impl FnOnce(&mut Self) -> Result<T, Aborted>,
    ) -> Result<T, Aborted> {
        match self {
            Self::Sqlite(conn) => {
                AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?;
            }
            Self::Postgres(conn) => AnsiTransactionManager::begin_transaction(conn)?,
        }
        match changes(self) {
            Ok(done) => {
                Transactions::commit_transaction(self)?;
                Ok(done)
            }
            Err(aborted) => match Transactions::rollback_transaction(self) {
                Ok(()) => Err(aborted),
                // It cannot, because of what went wrong before, which says more: a disk that is full, say,
                // on which SQLite has rolled back itself.
                Err(_) if matches!(aborted, Aborted::Query(_)) => Err(aborted),
                Err(QueryError::BrokenTransactionManager) => Err(aborted),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// What a query finds, the `first` or all that it can `load`. Nobody else changes it until the transaction
/// ends: PostgreSQL locks it; on SQLite there is no other writer.
macro_rules! for_update {
    ($conn:expr, $query:expr, $take:ident) => {
        match $conn {
            $crate::db::Conn::Sqlite(conn) => $query.$take(conn),
            $crate::db::Conn::Postgres(conn) => $query.for_update().$take(conn),
        }
    };
}
pub(crate) use for_update;

/// What a unique index says to an insert.
pub(crate) trait InsertResult<T> {
    /// `None` if the row would repeat what is unique.
    fn unless_taken(self) -> QueryResult<Option<T>>;
}

impl<T> InsertResult<T> for QueryResult<T> {
    fn unless_taken(self) -> QueryResult<Option<T>> {
        match self {
            Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(None),
            inserted => inserted.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection as _;

    use super::*;

    #[test]
    fn what_went_wrong_is_told_and_not_that_it_cannot_be_rolled_back() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute("PRAGMA max_page_count = 8; CREATE TABLE things (thing BLOB)")
            .unwrap();
        let mut conn = Conn::Sqlite(conn);
        let written = conn.write(|conn| match conn {
            Conn::Sqlite(conn) => {
                Ok(conn.batch_execute("INSERT INTO things VALUES (zeroblob(1000000))")?)
            }
            Conn::Postgres(_) => Ok(()),
        });
        let Err(Aborted::Query(error)) = written else {
            panic!("it fits");
        };
        assert_eq!(error.to_string(), "database or disk is full");
    }
}
