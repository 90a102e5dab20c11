//! How counts are added, each batch of them once.

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

/// Rows of one statement: SQLite takes some 32,000 parameters.
const ROWS: usize = 500;

/// Who writes, and which of its batches this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub writer: InstanceId,
    /// Counts from 1.
    pub number: i64,
}

/// Adds counts of hours, unless this batch of them has been added already: who did not hear of it adds
/// it again. Belongs into a transaction. All writers bring their counts in the same order.
pub fn add_once(conn: &mut Conn, batch: Batch, now: UtcTime, counts: &[Count]) -> QueryResult<()> {
    match is_next(conn, batch, now)? {
        true => add(conn, Granularity::Hour, counts),
        false => Ok(()),
    }
}

/// Adds counts to those that are there.
pub(super) fn add(conn: &mut Conn, to: Granularity, counts: &[Count]) -> QueryResult<()> {
    let (table, start) = match to {
        Granularity::Hour => ("usage_hours", "hour_start"),
        Granularity::Day => ("usage_days", "day_start"),
    };
    for counts in counts.chunks(ROWS) {
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

/// Forgets a writer that writes no more.
pub fn leave(conn: &mut Conn, writer: InstanceId) -> QueryResult<()> {
    diesel::delete(usage_writers::table.find(writer))
        .execute(conn)
        .map(drop)
}

/// Forgets writers that have not written for so long that they will not write that batch again.
pub fn forget_writers(conn: &mut Conn, silent_since: UtcTime) -> QueryResult<()> {
    diesel::delete(usage_writers::table)
        .filter(usage_writers::written_at.lt(silent_since))
        .execute(conn)
        .map(drop)
}

fn is_next(conn: &mut Conn, batch: Batch, now: UtcTime) -> QueryResult<bool> {
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
