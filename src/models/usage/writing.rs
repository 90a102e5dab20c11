//! Idempotent writes of batches of counts.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Binary, Text},
};

use super::Count;
use crate::{
    db::{Conn, schema::usage_writers},
    domain::{clock::UtcTime, id::InstanceId, usage::Granularity},
    models::parameters,
};

/// Number of rows in one statement. SQLite accepts about 32,000 parameters.
const ROWS_PER_STATEMENT: usize = 500;

/// Identity of a batch of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub writer: InstanceId,
    /// Number of the batch among those of this writer, starting at 1.
    pub number: i64,
}

/// Adds hourly counts, unless this batch was already added. A writer that does not know whether a write succeeded
/// repeats it.
///
/// Call it in a transaction. All writers must sort their counts in the same order, so that they do not deadlock.
pub fn add_once(conn: &mut Conn, batch: Batch, now: UtcTime, counts: &[Count]) -> QueryResult<()> {
    if register(conn, batch, now)? {
        add(conn, Granularity::Hour, counts)
    } else {
        Ok(())
    }
}

/// Adds counts to the stored ones.
pub(super) fn add(conn: &mut Conn, to: Granularity, counts: &[Count]) -> QueryResult<()> {
    let (table, start) = match to {
        Granularity::Hour => ("usage_hours", "hour_start"),
        Granularity::Day => ("usage_days", "day_start"),
    };
    for counts in counts.chunks(ROWS_PER_STATEMENT) {
        let rows = parameters(conn, counts.len(), 4);
        let mut insert = diesel::sql_query(format!(
            "INSERT INTO {table} (subject_id, {start}, outcome, count) VALUES {rows}
             ON CONFLICT (subject_id, {start}, outcome)
             DO UPDATE SET count = {table}.count + excluded.count"
        ))
        .into_boxed();
        for count in counts {
            insert = insert
                .bind::<Binary, _>(count.subject)
                .bind::<BigInt, _>(count.start)
                .bind::<Text, _>(count.outcome)
                .bind::<BigInt, _>(count.count);
        }
        insert.execute(conn)?;
    }
    Ok(())
}

/// Deletes the row of a writer that shuts down.
pub fn leave(conn: &mut Conn, writer: InstanceId) -> QueryResult<()> {
    diesel::delete(usage_writers::table.find(writer))
        .execute(conn)
        .map(drop)
}

/// Deletes the rows of writers that have not written since `silent_since` and so will not repeat their last batch.
pub fn delete_silent_writers(conn: &mut Conn, silent_since: UtcTime) -> QueryResult<()> {
    diesel::delete(usage_writers::table)
        .filter(usage_writers::written_at.lt(silent_since))
        .execute(conn)
        .map(drop)
}

/// Stores the number of a batch. Returns `false` if this batch was already added.
fn register(conn: &mut Conn, batch: Batch, now: UtcTime) -> QueryResult<bool> {
    let advanced = diesel::update(usage_writers::table.find(batch.writer))
        .filter(usage_writers::batch.lt(batch.number))
        .set((
            usage_writers::batch.eq(batch.number),
            usage_writers::written_at.eq(now),
        ))
        .execute(conn)?;
    if advanced > 0 {
        return Ok(true);
    }
    let inserted = diesel::sql_query(
        "INSERT INTO usage_writers (id, batch, written_at) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind::<Binary, _>(batch.writer)
    .bind::<BigInt, _>(batch.number)
    .bind::<BigInt, _>(now)
    .execute(conn)?;
    Ok(inserted > 0)
}
