//! Whether a database of PostgreSQL is being served. An embedded one is claimed by whoever serves it.

use std::{
    thread,
    time::{Duration, Instant},
};

use diesel::{
    QueryResult, QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Text},
};

use super::{refuse, tables};
use crate::db::{Aborted, Conn};

/// How long PostgreSQL may take to notice that whoever was connected has ended.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Refuses one that an instance is connected to, or renews its lease in.
pub(super) fn refuse_served(conn: &mut Conn, side: &str) -> Result<(), Aborted> {
    #[derive(QueryableByName)]
    struct Others {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let Conn::Postgres(postgres) = &mut *conn else {
        return Ok(());
    };
    let is_served = || {
        refuse(format!(
            "the {side} is in use by another latchkey; stop all that serve it"
        ))
    };
    let deadline = Instant::now() + GONE_WITHIN;
    let connected = "SELECT count(*) AS count FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'latchkey'
           AND pid <> pg_backend_pid()";
    while sql_query(connected).get_result::<Others>(postgres)?.count > 0 {
        if Instant::now() > deadline {
            return Err(is_served());
        }
        thread::sleep(GONE_WITHIN / 20);
    }
    let before = renewals(conn)?;
    if before.is_empty() {
        return Ok(());
    }
    // Those that were killed leave theirs behind; who lives renews within its lease.
    let longest = before.iter().map(|instance| instance.lease_micros).max();
    let longest = u64::try_from(longest.unwrap_or(0)).unwrap_or(0);
    thread::sleep(Duration::from_micros(longest).min(Duration::from_secs(60)));
    let has_renewed = |now: &Instance| {
        let earlier = before.iter().find(|instance| instance.id == now.id);
        earlier.is_none_or(|earlier| earlier.renewals != now.renewals)
    };
    match renewals(conn)?.iter().any(has_renewed) {
        true => Err(is_served()),
        false => Ok(()),
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
