//! Repeated shutdown signals: a repeat within the first second is ignored. A later one ends the process at once, and
//! usage counts are written nevertheless.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    raw::connect,
    support::{Client, Program, postgres, program::QUICK},
    usage,
};

/// Time during which repeated shutdown signals are ignored.
const REPEATS_IGNORED: Duration = Duration::from_secs(1);

const CHECKS: usize = 50;

/// Starts a service. Returns it and a client with an API key.
fn start(folder: &Path, database_url: &str, drain_seconds: &str) -> (Program, Client) {
    let more = [
        ("DATABASE_URL", database_url),
        ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests"),
        ("BODY_SECONDS", "600"),
        ("SHUTDOWN_SECONDS", "60"),
        ("DRAIN_SECONDS", drain_seconds),
    ];
    let program = Program::start(folder, &[&QUICK[..], &more].concat());
    let key = program.client().sign_up("ada@example.com").create_key();
    let caller = program.client().with_key(key["api_key"].as_str().unwrap());
    (program, caller)
}

/// Makes checks of the key whose counts are not all written yet.
fn check(caller: &Client) {
    for _ in 0..CHECKS {
        assert_eq!(caller.get("/protected").status, 200);
    }
}

/// Sends a request without its body: an orderly shutdown waits for it.
fn unfinished_request(program: &Program) -> TcpStream {
    let mut stream = connect(program);
    let headers = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(headers.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 25]).unwrap();
    stream
}

fn assert_repeats_within_a_second_are_ignored(folder: &Path, database_url: &str) {
    let (mut program, caller) = start(folder, database_url, "0");
    check(&caller);
    // A terminal sends INT to its whole process group, and a wrapper forwards TERM in addition.
    for signal in ["TERM", "INT", "TERM", "INT"] {
        program.signal(signal);
    }
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(usage::counted(database_url), CHECKS);
}

fn assert_second_signal_ends_the_shutdown(folder: &Path, database_url: &str) {
    let (mut program, caller) = start(folder, database_url, "30");
    let mut held = unfinished_request(&program);
    program.signal("TERM");
    program.await_line("shutting down");
    let signaled = Instant::now();
    program.signal("INT");
    program.await_line("ignored a repeated signal");
    thread::sleep(REPEATS_IGNORED.saturating_sub(signaled.elapsed()));
    check(&caller);
    let signaled = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(1));
    let took = signaled.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(usage::counted(database_url), CHECKS);
    let mut rest = String::new();
    let _ = held.read_to_string(&mut rest);
    assert_eq!(rest, "", "the request got no response");
}

fn on_sqlite(test: impl Fn(&Path, &str)) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/latchkey.db", folder.path().display());
    test(folder.path(), &url);
}

fn on_postgres(test: impl Fn(&Path, &str)) {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    test(folder.path(), &database.url);
}

#[test]
fn signals_repeated_within_the_first_second_of_a_shutdown_are_ignored_on_sqlite() {
    on_sqlite(assert_repeats_within_a_second_are_ignored);
}

#[test]
fn signals_repeated_within_the_first_second_of_a_shutdown_are_ignored_on_postgres() {
    on_postgres(assert_repeats_within_a_second_are_ignored);
}

#[test]
fn second_signal_ends_a_shutdown_and_loses_no_count_on_sqlite() {
    on_sqlite(assert_second_signal_ends_the_shutdown);
}

#[test]
fn second_signal_ends_a_shutdown_and_loses_no_count_on_postgres() {
    on_postgres(assert_second_signal_ends_the_shutdown);
}
