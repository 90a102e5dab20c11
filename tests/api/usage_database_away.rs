//! While the database is out of reach usage is kept; afterwards it is written, all of it, and once.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    quotas::go_to_noon,
    rate_limits::use_key,
    support::{
        Client, TestServer, path_of, postgres,
        proxy::{Mode, Proxy},
    },
    usage::await_usage,
};

/// Waits until the usage is told again, past connections that were lost, and is this.
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
fn what_is_counted_without_postgres_is_written_when_it_is_back() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = Duration::from_secs(1);
        // What is remembered of keys lasts as long as the test.
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
    crate::database_away::await_recovery(&server.caller(&key));
    let recovered = 1;
    await_usage_again(&ada, &key, &json!({"valid": 33 + recovered}));
}

#[test]
fn a_batch_of_which_nobody_heard_whether_it_was_written_is_written_once() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let server = TestServer::on(&proxy.url, |config| {
        config.database.timeout = Duration::from_secs(1);
        config.cache.lease = Duration::from_secs(60);
        // So that there is nearly always a batch on its way.
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
        // What was sent has arrived, and its answer has not.
        proxy.set(Mode::Cut);
        proxy.set(Mode::Open);
    }
    await_usage_again(&ada, &key, &json!({"valid": uses}));
}

#[test]
fn what_a_locked_embedded_database_did_not_take_is_written_afterwards() {
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

/// What `/metrics` there says of what waits to be written, and of what is lost.
fn pending_and_lost(metrics: SocketAddr) -> (u64, u64) {
    let told = Client::new(format!("http://{metrics}"))
        .get("/metrics")
        .body;
    let value = |name: &str| {
        let mut lines = told.lines().filter_map(|line| line.strip_prefix(name));
        let value = lines.find_map(|rest| rest.strip_prefix(' ')?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in {told}")) as u64
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
        let told = pending_and_lost(metrics);
        if told == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{told:?} is not {expected:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Not one that the system gives to clients.
fn free_address() -> SocketAddr {
    std::iter::repeat_with(|| {
        SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..30_000)))
    })
    .find(|address| TcpListener::bind(address).is_ok())
    .expect("a free port")
}

#[test]
fn past_the_bound_the_counts_of_further_keys_are_lost_and_a_metric_says_how_many() {
    use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
    let metrics = free_address();
    let server = TestServer::on_sqlite(|config| {
        config.database.timeout = Duration::from_millis(200);
        // What is remembered of keys lasts as long as the test.
        config.cache.lease = Duration::from_secs(60);
        config.telemetry.metrics_addr = Some(metrics);
        config.usage.max_pending = 3;
    });
    // Far from the end of an hour, with which each key begins another count.
    go_to_noon(&server);
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
    // What is being written when the others come is no longer among those that wait.
    use_key(&server, &keys[0], 1);
    await_pending_and_lost(metrics, (1, 0));
    for key in &keys[1..] {
        use_key(&server, key, 1);
    }
    await_pending_and_lost(metrics, (4, 2));
    // There is a place already for the first three, and none for the last.
    use_key(&server, &keys[3], 5);
    use_key(&server, &keys[5], 7);
    await_pending_and_lost(metrics, (9, 9));
    other.batch_execute("ROLLBACK").unwrap();
    await_pending_and_lost(metrics, (0, 9));
    for (key, uses) in keys.iter().zip([2, 2, 2, 7, 1, 1]) {
        await_usage(&ada, key, &json!({"valid": uses}));
    }
    // From now on there is room.
    use_key(&server, &keys[5], 1);
    await_usage(&ada, &keys[5], &json!({"valid": 2}));
    assert_eq!(pending_and_lost(metrics), (0, 9));
}
