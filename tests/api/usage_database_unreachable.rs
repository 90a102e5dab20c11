//! Usage while the database is unreachable: it is kept in memory, and written completely and once afterwards.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    quotas::set_clock_to_noon,
    rate_limits::use_key,
    support::{
        Client, TestServer, path_of, postgres,
        proxy::{Mode, Proxy},
    },
    usage::await_usage,
};

/// Waits until the usage can be read again and is as expected. Tolerates 503 from broken connections.
#[track_caller]
fn await_usage_again(owner: &Client, key: &Value, expected: &Value) {
    let path = format!("{}/usage", path_of(key));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = owner.get(&path);
        if reply.status == 200 && reply.json()["by_outcome"] == *expected {
            return;
        }
        assert!([200, 503].contains(&reply.status), "{reply:?}");
        assert!(Instant::now() < deadline, "{reply:?} is not {expected}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn usage_counted_without_postgres_is_written_after_recovery() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = Duration::from_secs(1);
        // Cached keys stay valid for the whole test.
        config.cache.lease = Duration::from_secs(60);
    });
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    use_key(&server, &key, 3);
    await_usage(&ada, &key, &json!({"valid": 3}));
    proxy.set(Mode::Cut);
    for _ in 0..30 {
        use_key(&server, &key, 1);
        thread::sleep(Duration::from_millis(100));
    }
    proxy.set(Mode::Open);
    crate::database_unreachable::await_recovery(&server.caller(&key));
    let recovered = 1;
    await_usage_again(&ada, &key, &json!({"valid": 33 + recovered}));
}

#[test]
fn usage_batch_with_an_unknown_commit_outcome_is_counted_once() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = Duration::from_secs(1);
        config.cache.lease = Duration::from_secs(60);
        // A short interval, so that a batch is nearly always in flight.
        config.usage.flush_interval = Duration::from_millis(1);
    });
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server.caller(&key);
    let mut uses = 0;
    for round in 0..40 {
        for _ in 0..20 + round {
            assert_eq!(caller.get("/protected").status, 200);
            uses += 1;
        }
        // The statement has reached PostgreSQL, but its response is lost.
        proxy.set(Mode::Cut);
        proxy.set(Mode::Open);
    }
    await_usage_again(&ada, &key, &json!({"valid": uses}));
}

#[test]
fn usage_counted_while_the_embedded_database_is_locked_is_written_later() {
    use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
    let server = TestServer::on_sqlite(|config| {
        config.database.timeout = Duration::from_millis(200);
    });
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    use_key(&server, &key, 2);
    await_usage(&ada, &key, &json!({"valid": 2}));
    let file = server.database_url.trim_start_matches("sqlite://");
    let mut other = SqliteConnection::establish(file).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    for _ in 0..30 {
        use_key(&server, &key, 1);
        thread::sleep(Duration::from_millis(100));
    }
    other.batch_execute("ROLLBACK").unwrap();
    await_usage(&ada, &key, &json!({"valid": 32}));
}

/// Reads the numbers of pending and of lost counts from `/metrics`.
fn pending_and_lost(metrics: SocketAddr) -> (u64, u64) {
    let exposition = Client::new(format!("http://{metrics}"))
        .get("/metrics")
        .body;
    let value = |name: &str| {
        let mut lines = exposition
            .lines()
            .filter_map(|line| line.strip_prefix(name));
        let value = lines.find_map(|rest| rest.strip_prefix(' ')?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in {exposition}")) as u64
    };
    (
        value("latchkey_usage_pending"),
        value("latchkey_usage_lost_total"),
    )
}

#[track_caller]
fn await_pending_and_lost(metrics: SocketAddr, expected: (u64, u64)) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let current = pending_and_lost(metrics);
        if current == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{current:?} is not {expected:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns a free address whose port is outside the ephemeral range of the system.
fn free_address() -> SocketAddr {
    std::iter::repeat_with(|| {
        SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..30_000)))
    })
    .find(|address| TcpListener::bind(address).is_ok())
    .expect("a free port")
}

#[test]
fn usage_beyond_max_pending_is_dropped_and_counted_in_a_metric() {
    use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
    let metrics = free_address();
    let server = TestServer::on_sqlite(|config| {
        config.database.timeout = Duration::from_millis(200);
        // Cached keys stay valid for the whole test.
        config.cache.lease = Duration::from_secs(60);
        config.telemetry.metrics_addr = Some(metrics);
        config.usage.max_pending = 3;
    });
    // Far from the end of an hour, since each key starts a new count every hour.
    set_clock_to_noon(&server);
    let ada = server.user("ada@example.com");
    let keys: Vec<_> = (0..6).map(|_| ada.create_key()).collect();
    for key in &keys {
        use_key(&server, key, 1);
        await_usage(&ada, key, &json!({"valid": 1}));
    }
    await_pending_and_lost(metrics, (0, 0));
    let file = server.database_url.trim_start_matches("sqlite://");
    let mut other = SqliteConnection::establish(file).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    // The first count is already being written, so it does not occupy one of the 3 pending entries.
    use_key(&server, &keys[0], 1);
    await_pending_and_lost(metrics, (1, 0));
    for key in &keys[1..] {
        use_key(&server, key, 1);
    }
    await_pending_and_lost(metrics, (4, 2));
    // `keys[3]` already has a pending entry, and `keys[5]` gets none.
    use_key(&server, &keys[3], 5);
    use_key(&server, &keys[5], 7);
    await_pending_and_lost(metrics, (9, 9));
    other.batch_execute("ROLLBACK").unwrap();
    await_pending_and_lost(metrics, (0, 9));
    for (key, uses) in keys.iter().zip([2, 2, 2, 7, 1, 1]) {
        await_usage(&ada, key, &json!({"valid": uses}));
    }
    // After the flush new entries are accepted.
    use_key(&server, &keys[5], 1);
    await_usage(&ada, &keys[5], &json!({"valid": 2}));
    assert_eq!(pending_and_lost(metrics), (0, 9));
}
