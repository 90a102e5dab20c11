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

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Args as _, FromArgMatches as _};
use latchkey::{
    core::{clock::Clock, config::Config},
    server::Server,
};

/// Keep-alive connections that ask without pause.
const CONNECTIONS: usize = 64;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// Clients that log in without pause.
const LOGINS: usize = 16;
const CREDENTIALS: &str =
    r#"{"email":"ada@example.com","password":"correct horse battery staple"}"#;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}/latchkey.db", folder.path().display());
    measure("SQLite", &sqlite);
    match std::env::var("BENCH_DATABASE_URL") {
        Ok(url) => measure("PostgreSQL", &url),
        Err(_) => println!("PostgreSQL: set BENCH_DATABASE_URL to an empty database"),
    }
}

fn measure(name: &str, database_url: &str) {
    let address = start(database_url);
    let login = post("/auth/login", "", CREDENTIALS);
    ask(&address, &post("/auth/signup", "", CREDENTIALS));
    let token = member(&ask(&address, &login), "access_token");
    let authorization = format!("authorization: Bearer {token}\r\n");
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

/// The service with its defaults, on a free port.
fn start(database_url: &str) -> String {
    let arguments = [
        "latchkey",
        "--port=0",
        "--jwt-secret=a-secret-for-benchmarks-and-nothing-else",
        "--database-url",
        database_url,
    ];
    let matches = Config::augment_args(clap::Command::new("latchkey")).get_matches_from(arguments);
    let config = Config::from_arg_matches(&matches).unwrap();
    let server = Server::prepare(&config, Clock::default()).unwrap();
    let address = server.address().unwrap().to_string();
    thread::spawn(move || actix_web::rt::System::new().block_on(server.run(|_| {})));
    address
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// Sends one request on a connection of its own.
fn ask(address: &str, request: &str) -> String {
    Connection::open(address).ask(request)
}

fn member(reply: &str, name: &str) -> String {
    let text = reply.split(&format!("\"{name}\":\"")).nth(1);
    let text = text.and_then(|rest| rest.split('"').next());
    text.unwrap_or_else(|| panic!("no {name} in {reply}"))
        .to_owned()
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: vec![0; 16 * 1024],
        }
    }

    /// Every answer of ours comes with its length.
    fn ask(&mut self, request: &str) -> String {
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            length += self
                .stream
                .read(&mut self.buffer[length..])
                .expect("an answer");
            let text = std::str::from_utf8(&self.buffer[..length]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let announced = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            if body.len() >= announced.map_or(0, |length| length.parse().unwrap()) {
                return text.to_owned();
            }
        }
    }
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

fn latencies_of(address: &str, request: &str, times: usize) -> Vec<Duration> {
    let mut connection = Connection::open(address);
    let once = |_| {
        let asked = Instant::now();
        assert!(connection.ask(request).starts_with("HTTP/1.1 200"));
        asked.elapsed()
    };
    (0..times).map(once).collect()
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

/// A percentile.
fn p(percent: usize, latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100]
}
