//! The listener of the metrics.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use super::metrics::Watched;
use crate::support::{
    PASSWORD,
    program::{QUICK, assert_fails_with_one_line, run},
};

#[test]
fn metrics_are_served_at_one_path_of_their_listener_only() {
    let watched = Watched::start(&[]);
    for path in ["/", "/metrics/", "/metrics/x", "/protected", "/health/live"] {
        assert_eq!(watched.get(path).status, 404, "{path}");
    }
    assert_eq!(watched.client().get("/metrics").status, 404);
}

#[test]
fn metrics_address_in_use_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = [&QUICK[..], &[("METRICS_ADDR", &address)]].concat();
    assert_fails_with_one_line(&run(&[], &settings), 1, &["METRICS_ADDR", &address]);
}

#[test]
fn metrics_are_served_during_shutdown() {
    let mut watched = Watched::start(&[]);
    let body = format!(r#"{{"email":"ada@example.com","password":"{PASSWORD}"}}"#);
    let length = body.len();
    let headers = format!(
        "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    let address = watched
        .program
        .base
        .trim_start_matches("http://")
        .to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(headers.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 25]).unwrap();
    watched.program.signal("TERM");
    watched.program.await_line("shutting down");
    watched.scrape();
    stream.write_all(body.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
    assert_eq!(watched.program.wait().code(), Some(0));
}
