//! While the database is out of reach every answer is 503, soon; afterwards all is well again.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    Client, PASSWORD, TestServer, postgres,
    proxy::{Mode, Proxy},
};

const TIMEOUT: Duration = Duration::from_secs(2);

fn assert_unavailable(caller: &Client, user: &Client) {
    let body = json!({"email": "bob@example.com", "password": PASSWORD});
    for ask in [
        &|| caller.get("/protected") as _,
        &|| user.get("/auth/me"),
        &|| user.post("/api-keys"),
        &|| caller.get("/health/ready"),
        &|| Client::new(caller.base()).post_json("/auth/signup", &body),
        &|| Client::new(caller.base()).post_json("/auth/login", &body),
    ] as [&dyn Fn() -> crate::support::Reply; 6]
    {
        let asked = Instant::now();
        ask().assert_problem(503, "unavailable");
        assert!(
            asked.elapsed() < TIMEOUT + Duration::from_secs(3),
            "{:?}",
            asked.elapsed()
        );
    }
    // What needs no database goes on.
    assert_eq!(caller.get("/health/live").status, 200);
    let garbage = Client::new(caller.base())
        .with_key("sk_live_garbage")
        .get("/protected");
    garbage.assert_problem(401, "invalid_api_key");
}

/// Asks until it is let in, within a bound.
pub fn await_recovery(caller: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while caller.get("/protected").status != 200 {
        assert!(Instant::now() < deadline, "it does not recover");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_postgres_that_is_gone_or_hangs_is_503_and_comes_back() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = TIMEOUT;
        config.database.pool_size = 3;
        // What is remembered would be answered for a while.
        config.cache.lease = Duration::ZERO;
    });
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);

    for how in [Mode::Cut, Mode::Stuck, Mode::Cut] {
        proxy.set(how);
        assert_unavailable(&caller, &ada);
        proxy.set(Mode::Open);
        await_recovery(&caller);
        for _ in 0..20 {
            assert_eq!(caller.get("/protected").status, 200);
        }
        assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 1);
    }
    // Nobody failed to log in while nobody could tell.
    for _ in 0..3 {
        server.anonymous().log_in("ada@example.com", PASSWORD);
    }
}

#[test]
fn an_embedded_database_that_somebody_else_locks_is_503_and_comes_back() {
    use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
    let server = TestServer::on_sqlite(|config| config.database.timeout = TIMEOUT);
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    let file = server.database_url.trim_start_matches("sqlite://");

    let mut other = SqliteConnection::establish(file).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    ada.post("/api-keys").assert_problem(503, "unavailable");
    // Readers are not held up by a writer.
    assert_eq!(caller.get("/protected").status, 200);
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(ada.post("/api-keys").status, 201);
    assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 2);
}
