//! Graceful shutdown on SIGTERM and SIGINT.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::support::{PASSWORD, Program, program::QUICK};

#[test]
fn shutdown_signal_lets_requests_in_progress_finish_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path(), &QUICK);
        let body = format!(r#"{{"email":"ada@example.com","password":"{PASSWORD}"}}"#);
        let length = body.len();
        let header_section = format!(
            "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        );
        let address = program.base.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(header_section.as_bytes()).unwrap();
        // Once the server asks for the body, the request is in progress.
        let mut interim_response = [0; 25];
        stream.read_exact(&mut interim_response).unwrap();
        assert_eq!(&interim_response, b"HTTP/1.1 100 Continue\r\n\r\n");
        program.signal(signal);
        program.await_line("shutting down");
        stream.write_all(body.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 201"), "{signal}: {reply}");
        assert_eq!(program.wait().code(), Some(0));
        assert!(TcpStream::connect(&address).is_err());
    }
}

#[test]
fn shutdown_does_not_wait_for_idle_connections() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), &QUICK);
    let client = program.client();
    // The client's connection stays open.
    assert_eq!(client.get("/health/live").status, 200);
    let signalled_at = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(
        signalled_at.elapsed() < Duration::from_secs(10),
        "{:?}",
        signalled_at.elapsed()
    );
}
