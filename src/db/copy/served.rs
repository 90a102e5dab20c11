//! Detects that a PostgreSQL database is being served.
//!
//! An embedded database needs no detection: its server holds the claim.

use std::{
    thread,
    time::{Duration, Instant},
};

use diesel::{
    QueryResult, QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Text},
};

use super::{rejected, tables};
use crate::db::{Aborted, Conn};

/// Time in which PostgreSQL removes the sessions of processes that have ended.
const SESSIONS_END_WITHIN: Duration = Duration::from_secs(2);

/// Fails if an instance is connected to the PostgreSQL database or renews its lease in it.
pub(super) fn reject_if_served(conn: &mut Conn, side: &str) -> Result<(), Aborted> {
    #[derive(QueryableByName)]
    struct Others {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let Conn::Postgres(postgres) = &mut *conn else {
        return Ok(());
    };
    let served_error = || {
        rejected(format!(
            "the {side} is in use by another latchkey process; stop all instances that serve it"
        ))
    };
    let deadline = Instant::now() + SESSIONS_END_WITHIN;
    let connected = "SELECT count(*) AS count FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'latchkey'
           AND pid <> pg_backend_pid()";
    while sql_query(connected).get_result::<Others>(postgres)?.count > 0 {
        if Instant::now() > deadline {
            return Err(served_error());
        }
        thread::sleep(SESSIONS_END_WITHIN / 20);
    }
    let before = renewals(conn)?;
    if before.is_empty() {
        return Ok(());
    }
    // A killed instance leaves its row behind. A live one renews its lease before it expires.
    let longest = before.iter().map(|instance| instance.lease_micros).max();
    let longest = u64::try_from(longest.unwrap_or(0)).unwrap_or(0);
    thread::sleep(Duration::from_micros(longest).min(Duration::from_secs(60)));
    let has_renewed = |now: &Instance| {
        let earlier = before.iter().find(|instance| instance.id == now.id);
        earlier.is_none_or(|earlier| earlier.renewals != now.renewals)
    };
    if renewals(conn)?.iter().any(has_renewed) {
        Err(served_error())
    } else {
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Instance {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    renewals: i64,
    #[diesel(sql_type = BigInt)]
    lease_micros: i64,
}

fn renewals(conn: &mut Conn) -> QueryResult<Vec<Instance>> {
    let has_table = tables::all(conn)?
        .iter()
        .any(|table| table.name == "instances");
    match conn {
        Conn::Postgres(conn) if has_table => {
            sql_query("SELECT encode(id, 'hex') AS id, renewals, lease_micros FROM instances")
                .load(conn)
        }
        _ => Ok(Vec::new()),
    }
}
