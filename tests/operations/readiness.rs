//! Readiness of an instance, and the details of the response if it is not ready.

use std::{
    io::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::metrics::Watched;
use crate::support::{
    Client, postgres,
    proxy::{Mode, Proxy},
    server,
};

#[track_caller]
fn await_that(condition: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{condition}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_ready(client: &Client) -> bool {
    client.get("/health/ready").status == 200
}

/// Returns the detail of a 503, which names condition is missing.
#[track_caller]
fn missing(client: &Client) -> String {
    let problem = client
        .get("/health/ready")
        .assert_problem(503, "unavailable");
    problem["detail"].as_str().unwrap().to_owned()
}

#[test]
fn instance_is_ready_as_soon_as_it_listens() {
    let watched = Watched::start(&[]);
    let reply = watched.client().get("/health/ready");
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
}

#[test]
fn readiness_names_the_missing_database_or_lease_and_recovers() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let watched = Watched::start(&[("DATABASE_URL", &proxy.url), ("CACHE_LEASE_SECONDS", "1")]);
    let client = watched.client();
    assert!(is_ready(&client));

    // Only the lease is missing: its table does not exist.
    server::execute_on(&database.url, "ALTER TABLE instances RENAME TO elsewhere");
    await_that("the lease is missing", || !is_ready(&client));
    let detail = missing(&client);
    assert!(
        detail.contains("this instance has no lease on its cache"),
        "{detail}"
    );
    assert!(!detail.contains("database"), "{detail}");
    assert_eq!(
        watched
            .scrape()
            .sum("latchkey_lease_remaining_seconds", &[]),
        0.0
    );
    server::execute_on(&database.url, "ALTER TABLE elsewhere RENAME TO instances");
    await_that("the instance is ready again", || is_ready(&client));

    proxy.set(Mode::Cut);
    await_that("the database is missing", || !is_ready(&client));
    await_that("database and lease are missing", || {
        let detail = missing(&client);
        detail.contains("the database is unreachable") && detail.contains("no lease")
    });
    // The process is live.
    assert_eq!(client.get("/health/live").status, 200);
    proxy.set(Mode::Open);
    await_that("the instance is ready again", || is_ready(&client));
}

#[test]
fn concurrent_readiness_probes_share_one_database_query() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    // Without a lease, nothing else queries the database.
    let watched = Watched::start(&[("DATABASE_URL", &proxy.url), ("CACHE_LEASE_SECONDS", "0")]);
    assert!(is_ready(&watched.client()));
    thread::sleep(Duration::from_secs(1));
    proxy.set(Mode::Stuck);
    thread::scope(|scope| {
        let probes: Vec<_> = (0..40)
            .map(|_| {
                let client = watched.client();
                scope.spawn(move || client.get("/health/ready").status)
            })
            .collect();
        let mut most = 0.0_f64;
        while probes.iter().any(|probe| !probe.is_finished()) {
            let scrape = watched.scrape();
            let in_use = scrape.sum("latchkey_database_connections", &[("state", "in_use")]);
            let waiting = scrape.sum("latchkey_database_waiting", &[]);
            most = most.max(in_use + waiting);
        }
        assert!((1.0..=2.0).contains(&most), "{most}");
        for probe in probes {
            assert_eq!(probe.join().unwrap(), 503);
        }
    });
}

#[test]
fn busy_database_does_not_make_the_instance_unready() {
    let settings = [
        ("DATABASE_POOL_SIZE", "1"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "3000"),
    ];
    let watched = Watched::start(&settings);
    let client = watched.client();
    let ada = client.sign_up("ada@example.com");
    for _ in 0..50 {
        ada.create_key();
    }
    // After one second, these changes do not prove any more that changes are possible.
    thread::sleep(Duration::from_millis(1100));
    let address = client.base().trim_start_matches("http://");
    let token = ada.header("authorization");
    let request = format!("GET /api-keys HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n\r\n");
    // More requests than the wait queue admits.
    let mut waiting: Vec<_> = (0..1300)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for stream in &mut waiting {
        stream.write_all(request.as_bytes()).unwrap();
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert!(is_ready(&client), "{}", missing(&client));
    }
    let rejected = watched.scrape().sum("latchkey_database_refused_total", &[]);
    assert!(rejected > 0.0, "the wait queue was never full");
}
