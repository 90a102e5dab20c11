//! The listener that Prometheus asks.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use super::metrics::Watched;
use crate::support::{
    PASSWORD,
    program::{QUICK, assert_refused, run},
};

#[test]
fn it_answers_at_one_path_and_the_service_does_not() {
    let watched = Watched::start(&[]);
    for path in ["/", "/metrics/", "/metrics/x", "/protected", "/health/live"] {
        assert_eq!(watched.get(path).status, 404, "{path}");
    }
    assert_eq!(watched.client().get("/metrics").status, 404);
}

#[test]
fn an_address_that_is_taken_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = [&QUICK[..], &[("METRICS_ADDR", &address)]].concat();
    assert_refused(&run(&[], &settings), 1, &["METRICS_ADDR", &address]);
}

#[test]
fn it_goes_on_while_the_service_stops() {
    let mut watched = Watched::start(&[]);
    let body = format!(r#"{{"email":"ada@example.com","password":"{PASSWORD}"}}"#);
    let length = body.len();
    let head = format!(
        "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    let address = watched
        .program
        .base
        .trim_start_matches("http://")
        .to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 25]).unwrap();
    watched.program.signal("TERM");
    watched.program.await_line("stopping");
    watched.scrape();
    stream.write_all(body.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
    assert_eq!(watched.program.wait().code(), Some(0));
}
