//! Whether an instance is ready, and what it says if it is not.

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
fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_ready(client: &Client) -> bool {
    client.get("/health/ready").status == 200
}

/// What is missing.
#[track_caller]
fn missing(client: &Client) -> String {
    let problem = client
        .get("/health/ready")
        .assert_problem(503, "unavailable");
    problem["detail"].as_str().unwrap().to_owned()
}

#[test]
fn it_is_ready_as_soon_as_it_listens() {
    let watched = Watched::start(&[]);
    let reply = watched.client().get("/health/ready");
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
}

#[test]
fn it_names_the_database_or_the_lease_and_comes_back() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let watched = Watched::start(&[("DATABASE_URL", &proxy.url), ("CACHE_LEASE_SECONDS", "1")]);
    let client = watched.client();
    assert!(is_ready(&client));

    // The lease alone: the table that it is renewed in is not there.
    server::execute_on(&database.url, "ALTER TABLE instances RENAME TO elsewhere");
    await_that("it misses the lease", || !is_ready(&client));
    let said = missing(&client);
    assert!(
        said.contains("the lease on what is remembered is missing"),
        "{said}"
    );
    assert!(!said.contains("database"), "{said}");
    assert_eq!(
        watched
            .scrape()
            .sum("latchkey_lease_remaining_seconds", &[]),
        0.0
    );
    server::execute_on(&database.url, "ALTER TABLE elsewhere RENAME TO instances");
    await_that("it is ready again", || is_ready(&client));

    proxy.set(Mode::Cut);
    await_that("it misses the database", || !is_ready(&client));
    await_that("it misses both", || {
        let said = missing(&client);
        said.contains("the database is out of reach") && said.contains("the lease")
    });
    // It lives.
    assert_eq!(client.get("/health/live").status, 200);
    proxy.set(Mode::Open);
    await_that("it is ready again", || is_ready(&client));
}

#[test]
fn however_many_ask_the_database_is_asked_by_one() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    // Without a lease nothing else asks it.
    let watched = Watched::start(&[("DATABASE_URL", &proxy.url), ("CACHE_LEASE_SECONDS", "0")]);
    assert!(is_ready(&watched.client()));
    thread::sleep(Duration::from_secs(1));
    proxy.set(Mode::Stuck);
    thread::scope(|scope| {
        let asking: Vec<_> = (0..40)
            .map(|_| {
                let client = watched.client();
                scope.spawn(move || client.get("/health/ready").status)
            })
            .collect();
        let mut most = 0.0_f64;
        while asking.iter().any(|asking| !asking.is_finished()) {
            let scrape = watched.scrape();
            let in_use = scrape.sum("latchkey_database_connections", &[("state", "in_use")]);
            let waiting = scrape.sum("latchkey_database_waiting", &[]);
            most = most.max(in_use + waiting);
        }
        assert!((1.0..=2.0).contains(&most), "{most}");
        for asking in asking {
            assert_eq!(asking.join().unwrap(), 503);
        }
    });
}

#[test]
fn a_database_that_many_wait_for_is_not_out_of_reach() {
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
    // From then on those changes prove nothing.
    thread::sleep(Duration::from_millis(1100));
    let address = client.base().trim_start_matches("http://");
    let token = ada.header("authorization");
    let request = format!("GET /api-keys HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n\r\n");
    // More than may wait.
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
    let refused = watched.scrape().sum("latchkey_database_refused_total", &[]);
    assert!(refused > 0.0, "there was room for all");
}
