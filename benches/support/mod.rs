//! Server to measure, and a minimal HTTP client.

pub(crate) mod engine;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod nginx;
pub(crate) mod program;
pub(crate) mod redis;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use clap::{Args as _, FromArgMatches as _};
use latchkey::{config::Config, domain::clock::Clock, server::Server};

/// Email address of the account that a benchmark creates.
pub(crate) const EMAIL: &str = "ada@example.com";
pub(crate) const CREDENTIALS: &str =
    r#"{"email":"ada@example.com","password":"correct horse battery staple"}"#;

/// Measures on SQLite, and on PostgreSQL where `BENCH_DATABASE_URL` names an empty database.
pub(crate) fn on_both_databases(measure: impl Fn(&str, &str)) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}/latchkey.db", folder.path().display());
    measure("SQLite", &sqlite);
    match std::env::var("BENCH_DATABASE_URL") {
        Ok(url) => measure("PostgreSQL", &url),
        Err(_) => println!("PostgreSQL: set BENCH_DATABASE_URL to an empty database"),
    }
}

/// Signs up and logs in. Returns the `authorization` header.
pub(crate) fn sign_up(address: &str) -> String {
    send(address, &post("/auth/signup", "", CREDENTIALS));
    let login = send(address, &post("/auth/login", "", CREDENTIALS));
    format!(
        "authorization: Bearer {}\r\n",
        json_member(&login, "access_token")
    )
}

/// Starts the service with its defaults on a free port, in this process. Returns its address.
pub(crate) fn start(database_url: &str) -> String {
    start_with(database_url, Clock::default(), |_| {})
}

/// Starts the service like [`start`], with this clock and with adjusted settings.
pub(crate) fn start_with(
    database_url: &str,
    clock: Clock,
    adjust: impl FnOnce(&mut Config),
) -> String {
    let arguments = [
        "latchkey",
        "--port=0",
        "--jwt-secret=a-secret-for-benchmarks-and-nothing-else",
        "--database-url",
        database_url,
    ];
    let matches = Config::augment_args(clap::Command::new("latchkey")).get_matches_from(arguments);
    let mut config = Config::from_arg_matches(&matches).unwrap();
    adjust(&mut config);
    let server = Server::prepare(&config, clock).unwrap();
    let address = server.address().unwrap().to_string();
    thread::spawn(move || actix_web::rt::System::new().block_on(server.run(|_| {})));
    address
}

pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// Sends one request on a new connection. Returns the response.
pub(crate) fn send(address: &str, request: &str) -> String {
    Connection::open(address).send(request)
}

/// Returns a string member of the JSON object in a response.
pub(crate) fn json_member(response: &str, name: &str) -> String {
    let text = response.split(&format!("\"{name}\":\"")).nth(1);
    let text = text.and_then(|rest| rest.split('"').next());
    text.unwrap_or_else(|| panic!("no {name} in {response}"))
        .to_owned()
}

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: vec![0; 1024 * 1024],
        }
    }

    /// Sends a request. Returns the response, which must have a `content-length` header.
    pub(crate) fn send(&mut self, request: &str) -> String {
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            length += self
                .stream
                .read(&mut self.buffer[length..])
                .expect("a response");
            let text = std::str::from_utf8(&self.buffer[..length]).unwrap();
            let Some((headers, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let content_length = headers
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            if body.len() >= content_length.map_or(0, |length| length.parse().unwrap()) {
                return text.to_owned();
            }
        }
    }
}

/// Sends a request repeatedly on one connection. Returns the latency of each response.
pub(crate) fn latencies_of(address: &str, request: &str, times: usize) -> Vec<Duration> {
    let mut connection = Connection::open(address);
    let once = |_| {
        let started = Instant::now();
        assert!(connection.send(request).starts_with("HTTP/1.1 200"));
        started.elapsed()
    };
    (0..times).map(once).collect()
}

/// Returns a percentile.
pub(crate) fn p(percent: usize, latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100]
}
