//! A change that leaves nothing behind, to see whether changes can be made.

use diesel::prelude::*;

use crate::{
    db::{Conn, schema::usage_writers},
    domain::{clock::UtcTime, id::InstanceId},
};

/// Adds a row that nobody else knows and removes it again. Belongs into a transaction, whose commit then writes to
/// the disk, waits for nobody's lock, and fails where nothing may be changed.
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
