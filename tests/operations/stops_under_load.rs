//! Stopped while it is busy: whoever was let in gets an answer.

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
    raw::{PATIENCE, address, connect, read_answer, read_to_end},
    support::{Program, postgres, program::QUICK},
    usage,
};

/// What became of a client's requests.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    said_close: AtomicUsize,
    failures: std::sync::Mutex<Vec<String>>,
}

struct Load {
    address: SocketAddr,
    request: String,
    every: Duration,
    tally: Tally,
}

impl Load {
    /// A connection, until there is nobody to connect to any more.
    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(10)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(stream)
    }

    /// Asks, and says whether the connection may be used again.
    fn ask(&self, stream: &mut TcpStream) -> bool {
        let began = Instant::now();
        let sent = stream.write_all(self.request.as_bytes());
        match sent.and_then(|()| read_answer(stream)) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
                self.tally.answered.fetch_add(1, Ordering::Relaxed);
                thread::sleep(self.every.saturating_sub(began.elapsed()));
                let closes = answer.to_lowercase().contains("\r\nconnection: close\r\n");
                self.tally
                    .said_close
                    .fetch_add(closes.into(), Ordering::Relaxed);
                !closes
            }
            Ok(answer) => self.fail(answer),
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&self, what: String) -> bool {
        self.tally.failures.lock().unwrap().push(what);
        false
    }

    fn keep_connections(&self) {
        while let Some(mut stream) = self.connect() {
            while self.ask(&mut stream) {}
        }
    }

    fn connect_each_time(&self) {
        while let Some(mut stream) = self.connect() {
            self.ask(&mut stream);
        }
    }
}

#[test]
fn under_a_thousand_requests_a_second_a_stop_loses_no_request_and_no_count_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/latchkey.db", folder.path().display());
    loses_nothing(folder.path(), &url);
}

#[test]
fn under_a_thousand_requests_a_second_a_stop_loses_no_request_and_no_count_on_postgres() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    loses_nothing(folder.path(), &database.url);
}

fn loses_nothing(folder: &Path, database_url: &str) {
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
            thread::spawn(move || match n < 8 {
                true => load.keep_connections(),
                false => load.connect_each_time(),
            })
        })
        .collect();
    while load.tally.answered.load(Ordering::Relaxed) < 1000 {
        assert!(load.tally.failures.lock().unwrap().is_empty());
        thread::sleep(Duration::from_millis(10));
    }
    let before = load.tally.answered.load(Ordering::Relaxed);
    let told = Instant::now();
    program.signal("TERM");
    program.await_line("stopping");
    // It says so to those who ask, and still does its work.
    let ready = program.client().get("/health/ready");
    ready.assert_problem(503, "unavailable");
    assert_eq!(ready.header("connection"), Some("close"));
    assert_eq!(program.wait().code(), Some(0));
    let took = told.elapsed();
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
    assert!(load.tally.said_close.load(Ordering::Relaxed) >= 8);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn whoever_waits_to_be_let_in_when_the_order_comes_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [&QUICK[..], &[("DRAIN_SECONDS", "0")]].concat();
    let mut program = Program::start(folder.path(), &settings);
    // Nothing is accepted while it stands still.
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
fn a_client_that_does_not_end_its_request_does_not_hold_up_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let more = [("SHUTDOWN_SECONDS", "3"), ("BODY_SECONDS", "600")];
    let mut program = Program::start(folder.path(), &[&QUICK[..], &more].concat());
    let mut stream = connect(&program);
    let head = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut go_on).unwrap();
    let told = Instant::now();
    program.signal("TERM");
    let status = program.wait();
    assert_eq!(status.code(), Some(0));
    // In time, and the rest for a machine that is busy.
    assert!(
        told.elapsed() < Duration::from_secs(8),
        "{:?}",
        told.elapsed()
    );
    program.await_line("no time left for them");
}
