//! What a flood of logins does to requests with an API key.
//!
//! `cargo bench --bench http`, on SQLite; on PostgreSQL too where `BENCH_DATABASE_URL` names an empty
//! database. Load and server share the machine, so only the ratios mean something.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

#[expect(dead_code, reason = "made for the other benchmarks as well")]
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
    CREDENTIALS, Connection, ask, get, latencies_of, load::CONNECTIONS, member, on_both_databases,
    p, post, program::Program, sign_up,
};

const ROUND: Duration = Duration::from_secs(3);
/// Well below what the machine can do: this measures waiting, not saturation.
const PAUSE: Duration = Duration::from_millis(50);
/// Clients that log in without pause.
const LOGINS: usize = 16;
/// How much longer a request may take while they do.
const TARGET: f64 = 3.0;

fn main() {
    on_both_databases(measure);
}

fn measure(name: &str, database_url: &str) {
    let program = Program::start(database_url);
    let address = &program.address;
    let authorization = sign_up(address);
    let login = post("/auth/login", "", CREDENTIALS);
    let key = member(
        &ask(address, &post("/api-keys", &authorization, "{}")),
        "api_key",
    );
    let protected = get("/protected", &format!("x-api-key: {key}\r\n"));

    println!("{name}, {CONNECTIONS} connections that ask every {PAUSE:?}");
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
        "  login         p50 {:?} alone, {:?} of {} under that load, and {} turned away",
        p(50, &alone),
        p(50, &under_load),
        under_load.len(),
        logins.len() - under_load.len()
    );
    program.stop();
}

/// How long each answer took.
fn latencies(address: &str, request: &str) -> Vec<Duration> {
    let stop = AtomicBool::new(false);
    let ask = || {
        let mut connection = Connection::open(address);
        let mut took = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            assert!(connection.ask(request).starts_with("HTTP/1.1 200"));
            took.push(asked.elapsed());
            thread::sleep(PAUSE);
        }
        // The first one waited for the connection too.
        took.split_off(1)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(ask)).collect();
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Clients that log in without pause until they are stopped.
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
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answer = connection.ask(&login);
                    // A login whose turn does not come in time is told so.
                    let turned_away = answer.starts_with("HTTP/1.1 503");
                    assert!(
                        turned_away || answer.starts_with("HTTP/1.1 200"),
                        "{answer}"
                    );
                    took.push((!turned_away).then(|| asked.elapsed()));
                }
                took
            })
        };
        let threads = (0..LOGINS).map(client).collect();
        thread::sleep(Duration::from_millis(500));
        Self { stop, threads }
    }

    /// How long each login took; `None` of those that were turned away.
    fn stop(self) -> Vec<Option<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    }
}
