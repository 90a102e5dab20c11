//! Being told to stop.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::support::{PASSWORD, Program, program::QUICK};

#[test]
fn told_to_stop_it_finishes_what_it_is_answering_and_exits_0() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path(), &QUICK);
        let body = format!(r#"{{"email":"ada@example.com","password":"{PASSWORD}"}}"#);
        let length = body.len();
        let head = format!(
            "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        );
        let address = program.base.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // Once it asks for the body, it is at work on the answer.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        program.signal(signal);
        program.await_line("stopping");
        stream.write_all(body.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 201"), "{signal}: {reply}");
        assert_eq!(program.wait().code(), Some(0));
        assert!(TcpStream::connect(&address).is_err());
    }
}

#[test]
fn told_to_stop_it_does_not_wait_for_idle_connections_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), &QUICK);
    let client = program.client();
    // Its connection stays open.
    assert_eq!(client.get("/health/live").status, 200);
    let told = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(
        told.elapsed() < Duration::from_secs(10),
        "{:?}",
        told.elapsed()
    );
}
