//! A query that takes too long ends when its request does: its connection is free for others.

use std::{
    thread,
    time::{Duration, Instant},
};

use diesel::{RunQueryDsl as _, sql_query};
use latchkey::{
    core::{config::DatabaseConfig, error::Error},
    db::{Conn, Db},
};

use crate::{on_both_databases, support::TestServer};

const TIMEOUT: Duration = Duration::from_secs(1);
const CONNECTIONS: u32 = 2;

on_both_databases!(
    endless_read_ends_and_gives_its_connection_back,
    endless_change_ends_and_leaves_nothing_behind,
    change_that_no_request_waits_for_may_take_longer_than_a_request,
);

const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT 1 - x FROM n) SELECT count(*) FROM n";
const SHORT: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000) SELECT count(*) FROM n";

fn open(server: &TestServer) -> Db {
    let config = DatabaseConfig {
        url: server.database_url.parse().unwrap(),
        pool_size: CONNECTIONS,
        timeout: TIMEOUT,
    };
    Db::open(&config).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap()
}

/// Waits until no connection is in use, which its own deadline must bring about.
fn await_free(db: &Db) {
    let bound = Instant::now() + Duration::from_secs(20);
    while db.usage().connections.running > 0 {
        assert!(
            Instant::now() < bound,
            "a connection is in use: {:?}",
            db.usage()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

fn endless_read_ends_and_gives_its_connection_back(server: TestServer) {
    let db = open(&server);
    runtime().block_on(async {
        let endless = |conn: &mut Conn| sql_query(ENDLESS).execute(conn);
        let (one, two) = tokio::join!(db.read(endless), db.read(endless));
        for result in [one, two] {
            assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
        }
    });
    await_free(&db);
    runtime().block_on(db.ping()).unwrap();
}

fn endless_change_ends_and_leaves_nothing_behind(server: TestServer) {
    server.user("ada@example.com");
    let db = open(&server);
    let rename = "UPDATE users SET email = 'eve@example.com'";
    let result = runtime().block_on(db.write(move |conn| {
        sql_query(rename).execute(conn)?;
        Ok(sql_query(ENDLESS).execute(conn)?)
    }));
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    await_free(&db);
    let changed = runtime().block_on(
        db.write(move |conn| Ok(sql_query("UPDATE users SET active = active").execute(conn)?)),
    );
    assert_eq!(changed.unwrap(), 1);
    assert_eq!(
        server.query("SELECT email AS text FROM users"),
        ["ada@example.com"]
    );
}

fn change_that_no_request_waits_for_may_take_longer_than_a_request(server: TestServer) {
    server.user("ada@example.com");
    let db = open(&server);
    let slow = move |conn: &mut Conn| {
        let began = Instant::now();
        sql_query("UPDATE users SET email = 'eve@example.com'").execute(conn)?;
        while began.elapsed() < 2 * TIMEOUT {
            sql_query(SHORT).execute(conn)?;
        }
        Ok(())
    };
    let cut_off = runtime().block_on(db.write(slow));
    assert!(matches!(cut_off, Err(Error::Unavailable(_))), "{cut_off:?}");
    await_free(&db);
    runtime().block_on(db.write_in_background(slow)).unwrap();
    assert_eq!(
        server.query("SELECT email AS text FROM users"),
        ["eve@example.com"]
    );
}
