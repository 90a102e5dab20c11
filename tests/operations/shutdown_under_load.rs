//! Shutdown under load: every accepted request gets its response.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    raw::{TIMEOUT, address, connect, read_response, read_to_end},
    support::{Program, postgres, program::QUICK},
    usage,
};

/// Results of the requests of the clients.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    announced_close: AtomicUsize,
    failures: std::sync::Mutex<Vec<String>>,
}

struct Load {
    address: SocketAddr,
    request: String,
    every: Duration,
    tally: Tally,
}

impl Load {
    /// Opens a connection. Returns `None` when the service does not accept connections any more.
    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(10)).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(stream)
    }

    /// Sends a request, and returns whether the connection can be used again.
    fn send_request(&self, stream: &mut TcpStream) -> bool {
        let began = Instant::now();
        let sent = stream.write_all(self.request.as_bytes());
        match sent.and_then(|()| read_response(stream)) {
            Ok(response) if response.starts_with("HTTP/1.1 200") => {
                self.tally.answered.fetch_add(1, Ordering::Relaxed);
                thread::sleep(self.every.saturating_sub(began.elapsed()));
                let closes = response
                    .to_lowercase()
                    .contains("\r\nconnection: close\r\n");
                self.tally
                    .announced_close
                    .fetch_add(closes.into(), Ordering::Relaxed);
                !closes
            }
            Ok(response) => self.fail(response),
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&self, cause: String) -> bool {
        self.tally.failures.lock().unwrap().push(cause);
        false
    }

    fn keep_connections(&self) {
        while let Some(mut stream) = self.connect() {
            while self.send_request(&mut stream) {}
        }
    }

    fn connect_each_time(&self) {
        while let Some(mut stream) = self.connect() {
            self.send_request(&mut stream);
        }
    }
}

#[test]
fn shutdown_under_load_loses_no_request_and_no_count_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/latchkey.db", folder.path().display());
    assert_nothing_lost(folder.path(), &url);
}

#[test]
fn shutdown_under_load_loses_no_request_and_no_count_on_postgres() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    assert_nothing_lost(folder.path(), &database.url);
}

fn assert_nothing_lost(folder: &Path, database_url: &str) {
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let settings = [&QUICK[..], &[("DATABASE_URL", database_url), secret]].concat();
    let mut program = Program::start(folder, &settings);
    let ada = program.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let key = key["api_key"].as_str().unwrap();
    let load = Arc::new(Load {
        address: address(&program).parse().unwrap(),
        request: format!("GET /protected HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n"),
        every: Duration::from_millis(10),
        tally: Tally::default(),
    });
    let clients: Vec<_> = (0..12)
        .map(|n| {
            let load = load.clone();
            thread::spawn(move || {
                if n < 8 {
                    load.keep_connections();
                } else {
                    load.connect_each_time();
                }
            })
        })
        .collect();
    while load.tally.answered.load(Ordering::Relaxed) < 1000 {
        assert!(load.tally.failures.lock().unwrap().is_empty());
        thread::sleep(Duration::from_millis(10));
    }
    let before = load.tally.answered.load(Ordering::Relaxed);
    let signaled = Instant::now();
    program.signal("TERM");
    program.await_line("shutting down");
    // Readiness reports the shutdown, and the service still serves requests.
    let ready = program.client().get("/health/ready");
    ready.assert_problem(503, "unavailable");
    assert_eq!(ready.header("connection"), Some("close"));
    assert_eq!(program.wait().code(), Some(0));
    let took = signaled.elapsed();
    for client in clients {
        client.join().unwrap();
    }
    let failures = load.tally.failures.lock().unwrap();
    assert!(
        failures.is_empty(),
        "{} failed: {failures:?}",
        failures.len()
    );
    let answered = load.tally.answered.load(Ordering::Relaxed);
    assert!(answered > before);
    assert_eq!(usage::counted(database_url), answered);
    assert!(load.tally.announced_close.load(Ordering::Relaxed) >= 8);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn connections_waiting_to_be_accepted_are_served_during_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [&QUICK[..], &[("DRAIN_SECONDS", "0")]].concat();
    let mut program = Program::start(folder.path(), &settings);
    // No connection is accepted while the process is paused.
    program.signal("STOP");
    let mut waiting: Vec<_> = (0..100).map(|_| connect(&program)).collect();
    for stream in &mut waiting {
        stream
            .write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
    }
    program.signal("TERM");
    program.signal("CONT");
    for stream in &mut waiting {
        let reply = read_to_end(stream);
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn unfinished_request_does_not_block_a_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let more = [("SHUTDOWN_SECONDS", "3"), ("BODY_SECONDS", "600")];
    let mut program = Program::start(folder.path(), &[&QUICK[..], &more].concat());
    let mut stream = connect(&program);
    let headers = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(headers.as_bytes()).unwrap();
    let mut interim = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut interim).unwrap();
    let signaled = Instant::now();
    program.signal("TERM");
    let status = program.wait();
    assert_eq!(status.code(), Some(0));
    // SHUTDOWN_SECONDS, plus slack for a busy machine.
    assert!(
        signaled.elapsed() < Duration::from_secs(8),
        "{:?}",
        signaled.elapsed()
    );
    program.await_line("closing connections that are still open");
}
