//! Detects a connection pooler that may assign a different session to each transaction.
//!
//! `LISTEN`, advisory locks and `SET` belong to a session. Behind a pooler in transaction mode they are lost, or
//! affect a transaction of another client.

use std::time::Duration;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Integer,
};

use super::{ConnectError, PostgresUrl, WaitLimit, open};

/// Time limit for the server to return the process that serves a connection.
const RESPONSE_WITHIN: Duration = Duration::from_secs(10);

/// Error raised when connections do not have their own sessions, or this cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum PoolerError {
    #[error(
        "leads to a connection pooler in transaction mode, where each transaction may get another \
         session: notifications, locks and time limits would be lost; connect to PostgreSQL itself, or \
         to a pool in session mode (PgBouncer: pool_mode = session)"
    )]
    TransactionMode,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = Integer)]
    process: i32,
}

/// Fails if this connection shares a session with another one to the same URL, or changes its session.
///
/// PostgreSQL itself has one process, and so one session, for each connection.
pub(crate) fn reject_transaction_pooler(
    url: &PostgresUrl,
    first: &mut PgConnection,
) -> Result<(), PoolerError> {
    let (mut second, watch) = open(url, WaitLimit::of_maintenance())?;
    watch.limit_statements(RESPONSE_WITHIN);
    let before = session_of(first)?;
    // A pooler in statement mode rejects transactions and closes the connection.
    sql_query("BEGIN")
        .execute(&mut second)
        .map_err(|_| PoolerError::TransactionMode)?;
    // The order matters: a pool with a single session has none left for the first connection now.
    if session_of(&mut second)? == before || session_of(first)? != before {
        return Err(PoolerError::TransactionMode);
    }
    Ok(())
}

/// Returns the id of the server process that serves this connection.
fn session_of(conn: &mut PgConnection) -> QueryResult<i32> {
    let session: Session = sql_query("SELECT pg_backend_pid() AS process").get_result(conn)?;
    Ok(session.process)
}
