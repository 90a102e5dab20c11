//! Probe that checks whether the database accepts writes, and leaves nothing behind.

use diesel::prelude::*;

use crate::{
    db::{Conn, schema::usage_writers},
    domain::{clock::UtcTime, id::InstanceId},
};

/// Inserts a row with an unused id and deletes it again.
///
/// Call it in a transaction. The commit then writes to the disk and waits for no lock of others. It fails where the
/// database is read-only.
pub fn write(conn: &mut Conn, id: InstanceId, now: UtcTime) -> QueryResult<()> {
    let row = (
        usage_writers::id.eq(id),
        usage_writers::batch.eq(0),
        usage_writers::written_at.eq(now),
    );
    diesel::insert_into(usage_writers::table)
        .values(row)
        .execute(conn)?;
    diesel::delete(usage_writers::table.find(id))
        .execute(conn)
        .map(drop)
}
