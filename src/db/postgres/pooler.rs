//! Recognises a connection pooler that gives each transaction another session.
//!
//! `LISTEN`, advisory locks and `SET` belong to a session. Behind a pooler in transaction mode they are
//! lost, or reach somebody else's transaction.

use std::time::Duration;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Integer,
};

use super::{ConnectError, Patience, PostgresUrl, open};

/// The time that the server may take to say which process serves a connection.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Why it is not known that each connection has a session of its own.
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

/// Fails if this connection and another one to the same URL share a session, or if it changes its session: PostgreSQL itself has a process for each connection.
pub(crate) fn refuse_transaction_pooler(
    url: &PostgresUrl,
    first: &mut PgConnection,
) -> Result<(), PoolerError> {
    let (mut second, watch) = open(url, Patience::of_maintenance())?;
    watch.limit_statements(ANSWERED_WITHIN);
    let before = session_of(first)?;
    // A pooler in statement mode does not allow transactions, and ends the connection.
    sql_query("BEGIN")
        .execute(&mut second)
        .map_err(|_| PoolerError::TransactionMode)?;
    // Asked in this order: a pool of a single session has none for the first connection now.
    if session_of(&mut second)? == before || session_of(first)? != before {
        return Err(PoolerError::TransactionMode);
    }
    Ok(())
}

/// The server's process that this connection talks to.
fn session_of(conn: &mut PgConnection) -> QueryResult<i32> {
    let session: Session = sql_query("SELECT pg_backend_pid() AS process").get_result(conn)?;
    Ok(session.process)
}
