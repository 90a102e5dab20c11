//! What a key costs over HTTP, as a ratio to a bare route in the same run, and what a flood of logins
//! does to it.
//!
//! `cargo bench --bench http`, on SQLite; on PostgreSQL too where `BENCH_DATABASE_URL` names an empty
//! database. Load and server share the machine, so only the ratios mean something.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use support::{
    CREDENTIALS, Connection, ask, get, latencies_of, member, on_both_databases, p, post, sign_up,
    start,
};

/// Keep-alive connections that ask without pause.
const CONNECTIONS: usize = 64;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// Clients that log in without pause.
const LOGINS: usize = 16;

fn main() {
    on_both_databases(measure);
}

fn measure(name: &str, database_url: &str) {
    let address = start(database_url);
    let authorization = sign_up(&address);
    let login = post("/auth/login", "", CREDENTIALS);
    let key = member(
        &ask(&address, &post("/api-keys", &authorization, "{}")),
        "api_key",
    );
    let live = get("/health/live", "");
    let protected = get("/protected", &format!("x-api-key: {key}\r\n"));

    println!("{name}, {CONNECTIONS} connections, best of {ROUNDS} rounds of {ROUND:?} each");
    let bare = rate(&address, &live);
    let guarded = rate(&address, &protected);
    println!("  /health/live  {bare:>9.0} requests/s");
    println!(
        "  /protected    {guarded:>9.0} requests/s   ratio {:.3}",
        guarded / bare
    );

    let quiet = latencies(&address, &protected);
    let flood = Flood::start(&address, &login);
    let flooded = latencies(&address, &protected);
    let under_load = flood.stop();
    let alone = latencies_of(&address, &login, 20);
    println!(
        "  /protected    p99 {:?} alone, {:?} while {LOGINS} log in",
        p(99, &quiet),
        p(99, &flooded)
    );
    println!(
        "  login         p50 {:?} alone, {:?} of {} under that load",
        p(50, &alone),
        p(50, &under_load),
        under_load.len()
    );
}

/// Requests per second.
fn rate(address: &str, request: &str) -> f64 {
    let round = |_| {
        let started = Instant::now();
        let counted: usize = with_load(address, request, |connection, stop| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(connection.ask(request).starts_with("HTTP/1.1 200"));
                count += 1;
            }
            count
        })
        .into_iter()
        .sum();
        counted as f64 / started.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

/// How long each answer took.
fn latencies(address: &str, request: &str) -> Vec<Duration> {
    let measured = with_load(address, request, |connection, stop| {
        let mut took = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            assert!(connection.ask(request).starts_with("HTTP/1.1 200"));
            took.push(asked.elapsed());
            // Well below what the machine can do: this measures waiting, not saturation.
            thread::sleep(Duration::from_millis(50));
        }
        took
    });
    measured.concat()
}

fn with_load<T: Send>(
    address: &str,
    request: &str,
    work: impl Fn(&mut Connection, &AtomicBool) -> T + Sync,
) -> Vec<T> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let open = || {
            let mut connection = Connection::open(address);
            assert!(connection.ask(request).starts_with("HTTP/1.1 200"));
            connection
        };
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut connection = open();
                let (work, stop) = (&work, &stop);
                scope.spawn(move || work(&mut connection, stop))
            })
            .collect();
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Clients that log in without pause until they are stopped.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Vec<Duration>>>,
}

impl Flood {
    fn start(address: &str, login: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (address, login, stop) = (address.to_owned(), login.to_owned(), stop.clone());
            thread::spawn(move || {
                let mut connection = Connection::open(&address);
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    assert!(connection.ask(&login).starts_with("HTTP/1.1 200"));
                    took.push(asked.elapsed());
                }
                took
            })
        };
        let threads = (0..LOGINS).map(client).collect();
        thread::sleep(Duration::from_millis(500));
        Self { stop, threads }
    }

    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    }
}
