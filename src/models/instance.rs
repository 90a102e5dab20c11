//! Table `instances`: instances that may hold a lease on their cache. It exists on PostgreSQL only, like `key_changes`.

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

/// `NOTIFY` channel of acknowledgements. The payload is the id of an instance and a revision.
pub const ACKS_CHANNEL: &str = "latchkey_acks";

/// Row of an instance, which the instance itself writes.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = instances)]
pub struct Instance {
    pub id: InstanceId,
    /// Revision up to which the instance has invalidated all changed keys. -1 until its first acknowledgement.
    pub acked_revision: i64,
    /// Number of the instance's latest renewal.
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

    /// Duration for which the instance trusts its cache, counted from the start of a renewal.
    pub fn lease(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.lease_micros).unwrap_or(0))
    }
}

/// Returns all instances.
pub fn list(conn: &mut Conn) -> QueryResult<Vec<Instance>> {
    match conn {
        Conn::Sqlite(_) => Ok(Vec::new()),
        Conn::Postgres(conn) => instances::table.select(Instance::as_select()).load(conn),
    }
}

/// Stores a renewal of an instance's lease. Returns the revision that the database has as acknowledged by it.
///
/// The numbers of an instance's renewals ascend and never repeat, even if its row was removed in between. Other
/// instances compare them to see whether the instance has renewed since their last look. A renewal that arrives
/// after a later one fails with `NotFound`.
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

/// Stores the revision up to which an instance has invalidated its cache, and notifies the others.
pub fn acknowledge(conn: &mut Conn, id: InstanceId, revision: i64) -> QueryResult<()> {
    let Conn::Postgres(conn) = conn else {
        return Ok(());
    };
    // The commit does not wait for the disk. If an acknowledgement is lost, changes only wait a little longer.
    diesel::sql_query(
        "WITH acked AS (UPDATE instances SET acked_revision = $1 WHERE id = $2)
         SELECT set_config('synchronous_commit', 'off', true)",
    )
    .bind::<BigInt, _>(revision)
    .bind::<Binary, _>(id)
    .execute(conn)?;
    notify(conn, ACKS_CHANNEL, &format!("{id} {revision}"))
}

/// Parses the payload of a notification that [`acknowledge`] or [`leave`] sends.
pub fn read_acknowledgement(payload: &str) -> Option<(InstanceId, i64)> {
    let (id, revision) = payload.split_once(' ')?;
    Some((InstanceId::parse(id)?, revision.parse().ok()?))
}

/// Removes an instance that shuts down, and notifies the others.
pub fn leave(conn: &mut Conn, id: InstanceId) -> QueryResult<()> {
    let Conn::Postgres(conn) = conn else {
        return Ok(());
    };
    diesel::delete(instances::table.find(id)).execute(conn)?;
    notify(conn, ACKS_CHANNEL, &format!("{id} {}", i64::MAX))
}

/// Removes an instance, unless it has renewed since its row was read as `seen`.
pub fn remove_dead(conn: &mut Conn, seen: &Instance) -> QueryResult<()> {
    let Conn::Postgres(conn) = conn else {
        return Ok(());
    };
    diesel::delete(instances::table.find(seen.id))
        .filter(instances::renewals.eq(seen.renewals))
        .execute(conn)
        .map(drop)
}
