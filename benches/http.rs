//! Effect of a flood of logins on the latency of requests with an API key.
//!
//! `cargo bench --bench http`, on SQLite; on PostgreSQL too where `BENCH_DATABASE_URL` names an empty
//! database. Load and server share the machine, so only the ratios mean something.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

#[expect(dead_code, reason = "shared with the other benchmarks")]
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
    CREDENTIALS, Connection, get, json_member, latencies_of, load::CONNECTIONS, on_both_databases,
    p, post, program::Program, send, sign_up,
};

const ROUND: Duration = Duration::from_secs(3);
/// Pause between two requests of a connection. The load is far below the capacity: the benchmark measures waiting, not
/// saturation.
const PAUSE: Duration = Duration::from_millis(50);
/// Number of clients that log in without pauses.
const LOGINS: usize = 16;
/// Maximum ratio of the latency during the flood to that without it.
const TARGET: f64 = 3.0;

fn main() {
    on_both_databases(measure);
}

fn measure(name: &str, database_url: &str) {
    let program = Program::start(database_url);
    let address = &program.address;
    let authorization = sign_up(address);
    let login = post("/auth/login", "", CREDENTIALS);
    let key = json_member(
        &send(address, &post("/api-keys", &authorization, "{}")),
        "api_key",
    );
    let protected = get("/protected", &format!("x-api-key: {key}\r\n"));

    println!("{name}, {CONNECTIONS} connections, each with a request every {PAUSE:?}");
    let quiet = latencies(address, &protected);
    let flood = Flood::start(address, &login);
    let flooded = latencies(address, &protected);
    let logins = flood.stop();
    let under_load: Vec<_> = logins.iter().flatten().copied().collect();
    let alone = latencies_of(address, &login, 20);
    let (quiet, flooded) = (p(99, &quiet), p(99, &flooded));
    let ratio = flooded.as_secs_f64() / quiet.as_secs_f64();
    let verdict = if ratio <= TARGET { "met" } else { "missed" };
    println!(
        "  /protected    p99 {quiet:?} alone, {flooded:?} while {LOGINS} log in, {ratio:.2} times as \
         long   target at most {TARGET} times: {verdict}"
    );
    println!(
        "  login         p50 {:?} alone, {:?} of {} during the flood; {} rejected with 503",
        p(50, &alone),
        p(50, &under_load),
        under_load.len(),
        logins.len() - under_load.len()
    );
    program.stop();
}

/// Returns the latency of each response.
fn latencies(address: &str, request: &str) -> Vec<Duration> {
    let stop = AtomicBool::new(false);
    let client = || {
        let mut connection = Connection::open(address);
        let mut latencies = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            assert!(connection.send(request).starts_with("HTTP/1.1 200"));
            latencies.push(started.elapsed());
            thread::sleep(PAUSE);
        }
        // Drops the first one, which includes the time until the server accepted the connection.
        latencies.split_off(1)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Clients that log in without pauses until they are stopped.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Vec<Option<Duration>>>>,
}

impl Flood {
    fn start(address: &str, login: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (address, login, stop) = (address.to_owned(), login.to_owned(), stop.clone());
            thread::spawn(move || {
                let mut connection = Connection::open(&address);
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let response = connection.send(&login);
                    // A login that does not get a permit of the wait queue in time is rejected with 503.
                    let is_rejected = response.starts_with("HTTP/1.1 503");
                    assert!(
                        is_rejected || response.starts_with("HTTP/1.1 200"),
                        "{response}"
                    );
                    latencies.push((!is_rejected).then(|| started.elapsed()));
                }
                latencies
            })
        };
        let threads = (0..LOGINS).map(client).collect();
        thread::sleep(Duration::from_millis(500));
        Self { stop, threads }
    }

    /// Stops the clients. Returns the latency of each login, or `None` for those that were rejected.
    fn stop(self) -> Vec<Option<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    }
}
