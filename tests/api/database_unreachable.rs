//! Database outages: requests that need the database get 503 within the timeout, and succeed again afterwards.

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
    for request in [
        &|| caller.get("/protected") as _,
        &|| user.get("/auth/me"),
        &|| user.post("/api-keys"),
        &|| caller.get("/health/ready"),
        &|| Client::new(caller.base()).post_json("/auth/signup", &body),
        &|| Client::new(caller.base()).post_json("/auth/login", &body),
    ] as [&dyn Fn() -> crate::support::Reply; 6]
    {
        let started = Instant::now();
        request().assert_problem(503, "unavailable");
        assert!(
            started.elapsed() < TIMEOUT + Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
    }
    // Requests that need no database are still processed.
    assert_eq!(caller.get("/health/live").status, 200);
    let garbage = Client::new(caller.base())
        .with_key("sk_live_garbage")
        .get("/protected");
    garbage.assert_problem(401, "invalid_api_key");
}

/// Sends requests until one is accepted, for at most 20 seconds.
pub fn await_recovery(caller: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while caller.get("/protected").status != 200 {
        assert!(
            Instant::now() < deadline,
            "no request was accepted within 20 seconds"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn requests_get_503_while_postgres_is_cut_off_or_hangs_and_recover() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = TIMEOUT;
        config.database.pool_size = 3;
        // Without leases no key is cached. A cached key would still be accepted for a while.
        config.cache.lease = Duration::ZERO;
    });
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);

    for mode in [Mode::Cut, Mode::Stuck, Mode::Cut] {
        proxy.set(mode);
        assert_unavailable(&caller, &ada);
        proxy.set(Mode::Open);
        await_recovery(&caller);
        for _ in 0..20 {
            assert_eq!(caller.get("/protected").status, 200);
        }
        assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 1);
    }
    // Logins that got 503 do not count as failed logins.
    for _ in 0..3 {
        server.anonymous().log_in("ada@example.com", PASSWORD);
    }
}

#[test]
fn changes_get_503_while_another_program_locks_the_embedded_database_and_recover() {
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
    // A writer does not block readers.
    assert_eq!(caller.get("/protected").status, 200);
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(ada.post("/api-keys").status, 201);
    assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 2);
}
