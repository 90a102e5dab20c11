//! `instances`: who may answer from memory. PostgreSQL's alone, as `key_changes` is.

use std::time::Duration;

use diesel::{
    prelude::*,
    query_dsl::methods::FilterDsl,
    sql_types::{BigInt, Binary},
};

use super::key_change::notify;
use crate::{
    db::{Conn, schema::instances},
    domain::id::InstanceId,
};

/// Where instances tell what they have forgotten: their id and the revision.
pub const ACKS_CHANNEL: &str = "latchkey_acks";

/// An instance, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = instances)]
pub struct Instance {
    pub id: InstanceId,
    /// It answers nothing from before this revision. -1 while it does not know one.
    pub acked_revision: i64,
    pub renewals: i64,
    lease_micros: i64,
}

impl Instance {
    #[cfg(test)]
    pub(crate) fn new(id: InstanceId, acked_revision: i64, renewals: i64, lease: Duration) -> Self {
        Self {
            id,
            acked_revision,
            renewals,
            lease_micros: lease.as_micros() as i64,
        }
    }

    /// How long it trusts its memory after it has begun to renew.
    pub fn lease(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.lease_micros).unwrap_or(0))
    }
}

/// All of them.
pub fn list(conn: &mut Conn) -> QueryResult<Vec<Instance>> {
    match conn {
        Conn::Sqlite(_) => Ok(Vec::new()),
        Conn::Postgres(conn) => instances::table.select(Instance::as_select()).load(conn),
    }
}

/// Says that an instance goes on, and answers what it has acknowledged, as far as the database knows.
/// Its renewals have ascending numbers, and none twice, also if its row was removed in between: others
/// tell by them whether it has renewed since they looked. One that comes late is not found.
pub fn renew(conn: &mut Conn, id: InstanceId, renewals: i64, lease: Duration) -> QueryResult<i64> {
    let Conn::Postgres(conn) = conn else {
        return Ok(-1);
    };
    let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    let renewed = diesel::insert_into(instances::table)
        .values((
            instances::id.eq(id),
            instances::acked_revision.eq(-1),
            instances::renewals.eq(renewals),
            instances::lease_micros.eq(lease),
        ))
        .on_conflict(instances::id)
        .do_update()
        .set(instances::renewals.eq(renewals));
    FilterDsl::filter(renewed, instances::renewals.lt(renewals))
        .returning(instances::acked_revision)
        .get_result(conn)
}

/// Stores what an instance has forgotten up to, and tells it.
pub fn acknowledge(conn: &mut Conn, id: InstanceId, revision: i64) -> QueryResult<()> {
    let Conn::Postgres(conn) = conn else {
        return Ok(());
    };
    // Not worth waiting for the disk: one that is lost is waited for a little longer.
    diesel::sql_query(
        "WITH acked AS (UPDATE instances SET acked_revision = $1 WHERE id = $2)
         SELECT set_config('synchronous_commit', 'off', true)",
    )
    .bind::<BigInt, _>(revision)
    .bind::<Binary, _>(id)
    .execute(conn)?;
    notify(conn, ACKS_CHANNEL, &format!("{id} {revision}"))
}

/// Reads what [`acknowledge`] tells.
pub fn read_acknowledgement(payload: &str) -> Option<(InstanceId, i64)> {
    let (id, revision) = payload.split_once(' ')?;
    Some((InstanceId::parse(id)?, revision.parse().ok()?))
}

/// Removes one that leaves.
pub fn leave(conn: &mut Conn, id: InstanceId) -> QueryResult<()> {
    let Conn::Postgres(conn) = conn else {
        return Ok(());
    };
    diesel::delete(instances::table.find(id)).execute(conn)?;
    notify(conn, ACKS_CHANNEL, &format!("{id} {}", i64::MAX))
}

/// Removes one that has not gone on since it was seen like this.
pub fn remove_dead(conn: &mut Conn, seen: &Instance) -> QueryResult<()> {
    let Conn::Postgres(conn) = conn else {
        return Ok(());
    };
    diesel::delete(instances::table.find(seen.id))
        .filter(instances::renewals.eq(seen.renewals))
        .execute(conn)
        .map(drop)
}
