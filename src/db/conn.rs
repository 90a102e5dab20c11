//! Connection to SQLite or PostgreSQL, and its transactions.

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::{Connection, MultiConnection, PgConnection, QueryResult, SqliteConnection};

use crate::domain::error::Error;

/// Connection to the embedded database or to PostgreSQL.
#[derive(MultiConnection)]
pub enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

type Transactions = <Conn as Connection>::TransactionManager;

/// Reason why a transaction was rolled back.
#[derive(Debug)]
pub enum Aborted {
    /// A query failed.
    Query(QueryError),
    /// A rule of the service rejected the change.
    Rejected(Error),
}

impl From<QueryError> for Aborted {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Error> for Aborted {
    fn from(error: Error) -> Self {
        Self::Rejected(error)
    }
}

impl Conn {
    /// Makes changes in one transaction: all of them, or none if any fails.
    ///
    /// On SQLite the transaction takes the write lock when it begins (`BEGIN IMMEDIATE`). A transaction that
    /// begins with a read cannot get the lock later if another connection has written in between.
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
                // The first error is the cause of the failed rollback, and says more. On a full disk, for example,
                // SQLite has already rolled back by itself.
                Err(_) if matches!(aborted, Aborted::Query(_)) => Err(aborted),
                Err(QueryError::BrokenTransactionManager) => Err(aborted),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// Runs a query with the method `$take` (`first`, `load`) and locks the rows it returns until the transaction ends.
///
/// PostgreSQL locks the rows. On SQLite there is no other writer.
macro_rules! for_update {
    ($conn:expr, $query:expr, $take:ident) => {
        match $conn {
            $crate::db::Conn::Sqlite(conn) => $query.$take(conn),
            $crate::db::Conn::Postgres(conn) => $query.for_update().$take(conn),
        }
    };
}
pub(crate) use for_update;

/// Result of an insert that may violate a unique index.
pub(crate) trait InsertResult<T> {
    /// Returns `None` if the row violates a unique index.
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
    fn transaction_on_a_full_disk_returns_the_cause_and_not_the_failed_rollback() {
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
            panic!("the row fits");
        };
        assert_eq!(error.to_string(), "database or disk is full");
    }
}
