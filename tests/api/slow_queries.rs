//! Queries that exceed the timeout: they are cancelled with their request, and their connections are released.

use std::{
    thread,
    time::{Duration, Instant},
};

use diesel::{RunQueryDsl as _, sql_query};
use latchkey::{
    config::DatabaseConfig,
    db::{Conn, Db},
    domain::error::Error,
};

use crate::{on_both_databases, support::TestServer};

const TIMEOUT: Duration = Duration::from_secs(1);
const CONNECTIONS: u32 = 2;

on_both_databases!(
    endless_read_is_cancelled_and_returns_its_connection,
    endless_write_is_cancelled_and_rolled_back,
    background_write_may_take_longer_than_a_request,
);

const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT 1 - x FROM n) SELECT count(*) FROM n";
/// Query of a few milliseconds.
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

/// Waits until no connection is in use. The deadline of the query itself must release it.
fn await_idle_pool(db: &Db) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while db.usage().connections.running > 0 {
        assert!(
            Instant::now() < deadline,
            "a connection is in use: {:?}",
            db.usage()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

fn endless_read_is_cancelled_and_returns_its_connection(server: TestServer) {
    let db = open(&server);
    runtime().block_on(async {
        let endless = |conn: &mut Conn| sql_query(ENDLESS).execute(conn);
        let (first, second) = tokio::join!(db.read(endless), db.read(endless));
        for result in [first, second] {
            assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
        }
    });
    await_idle_pool(&db);
    runtime().block_on(db.ping()).unwrap();
}

fn endless_write_is_cancelled_and_rolled_back(server: TestServer) {
    server.user("ada@example.com");
    let db = open(&server);
    let rename = "UPDATE users SET email = 'eve@example.com'";
    let result = runtime().block_on(db.write(move |conn| {
        sql_query(rename).execute(conn)?;
        Ok(sql_query(ENDLESS).execute(conn)?)
    }));
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    await_idle_pool(&db);
    let changed = runtime().block_on(
        db.write(move |conn| Ok(sql_query("UPDATE users SET active = active").execute(conn)?)),
    );
    assert_eq!(changed.unwrap(), 1);
    assert_eq!(
        server.query("SELECT email AS text FROM users"),
        ["ada@example.com"]
    );
}

fn background_write_may_take_longer_than_a_request(server: TestServer) {
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
    let cancelled = runtime().block_on(db.write(slow));
    assert!(
        matches!(cancelled, Err(Error::Unavailable(_))),
        "{cancelled:?}"
    );
    await_idle_pool(&db);
    runtime().block_on(db.write_in_background(slow)).unwrap();
    assert_eq!(
        server.query("SELECT email AS text FROM users"),
        ["eve@example.com"]
    );
}
