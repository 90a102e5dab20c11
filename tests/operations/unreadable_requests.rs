//! Requests that the connection rejects itself, such as oversized headers, after any other requests on it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    metrics::Watched,
    raw::{TIMEOUT, address, assert_last_problem, connect, drip, read_response, read_to_end},
    support::{Program, program::QUICK},
};

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
const PAGE: &[u8] = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";
const SIGNUP: &str = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

fn start(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Program {
    Program::start(folder.path(), &[&QUICK[..], more].concat())
}

fn large_headers() -> String {
    format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(75_000))
}

/// Opens a connection and completes a request with a chunked body on it.
fn after_chunks(program: &Program) -> TcpStream {
    let mut stream = connect(program);
    let chunked = format!("{SIGNUP}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    stream.write_all(chunked.as_bytes()).unwrap();
    let response = read_response(&mut stream).unwrap();
    assert!(response.starts_with("HTTP/1.1 422"), "{response}");
    assert!(!response.to_lowercase().contains("\r\nconnection: close"));
    stream
}

#[test]
fn header_limits_hold_after_a_chunked_body() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[("HEAD_SECONDS", "1")]);
    let mut stream = after_chunks(&program);
    stream.write_all(large_headers().as_bytes()).unwrap();
    assert_last_problem(&read_to_end(&mut stream), 431, "headers_too_large");
    let slow = drip(after_chunks(&program), b"GET / HTTP/1.1\r\nx: ", b"y");
    assert_last_problem(&slow, 408, "request_timeout");
    // A complete body that the service does not read does not end the connection.
    let mut stream = connect(&program);
    let unread = [
        b"GET /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        &b"2\r\n{}\r\n0\r\n\r\n"[..],
    ];
    stream.write_all(&unread.concat()).unwrap();
    let response = read_response(&mut stream).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(!response.to_lowercase().contains("\r\nconnection: close"));
    stream.write_all(large_headers().as_bytes()).unwrap();
    assert_last_problem(&read_to_end(&mut stream), 431, "headers_too_large");
}

/// Splits responses by their content length, and returns the statuses. Panics if one is incomplete.
fn statuses(mut responses: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !responses.is_empty() {
        let end = responses.windows(4).position(|part| part == b"\r\n\r\n");
        let headers =
            String::from_utf8(responses[..end.expect("a header section")].to_vec()).unwrap();
        let mut lines = headers.lines();
        let status = lines
            .next()
            .unwrap()
            .strip_prefix("HTTP/1.1 ")
            .expect("a status");
        statuses.push(status[..3].parse().unwrap());
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().unwrap();
        responses = responses[headers.len() + 4..]
            .get(length..)
            .expect("a complete response");
    }
    statuses
}

/// Opens a connection with a small receive buffer, so that the service has to buffer responses.
fn connect_with_small_buffer(program: &Program) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let target: SocketAddr = address(program).parse().unwrap();
    socket.connect(&target.into()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.into()
}

#[test]
fn error_response_is_not_written_into_another_response() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[("WORKERS", "1"), ("HEAD_SECONDS", "1")]);
    for last in [large_headers(), "GET / HTTP/1.1\r\nx: y".to_owned()] {
        let mut stream = connect_with_small_buffer(&program);
        stream.write_all(&PAGE.repeat(8)).unwrap();
        // More data than all buffers on the way can hold is still to come.
        let mut responses = vec![0; 1_000_000];
        stream.read_exact(&mut responses).unwrap();
        // Waits until the service has filled the buffers.
        thread::sleep(Duration::from_millis(300));
        let is_slow = last.len() < 100;
        if is_slow {
            stream.write_all(last.as_bytes()).unwrap();
            // Waits until the headers are read, and a part of their time limit has passed.
            thread::sleep(Duration::from_millis(500));
        }
        // When the process resumes, there is room for more of the response, and the headers are too large or too late.
        program.signal("STOP");
        let mut part = vec![0; 1 << 20];
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        while let Ok(count @ 1..) = stream.read(&mut part) {
            responses.extend_from_slice(&part[..count]);
        }
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        if is_slow {
            thread::sleep(Duration::from_millis(700));
        } else {
            stream.write_all(last.as_bytes()).unwrap();
        }
        program.signal("CONT");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match stream.read(&mut part) {
                Ok(count @ 1..) => responses.extend_from_slice(&part[..count]),
                Ok(_) => break,
                Err(error) => panic!("{error} after {} bytes", responses.len()),
            }
            assert!(Instant::now() < deadline, "the connection does not end");
        }
        let statuses = statuses(&responses);
        let (pages, rest) = statuses.split_at(8);
        assert_eq!(pages, [200; 8]);
        // An error response may follow, if the headers were read when the pages had been sent.
        assert!(matches!(rest, [] | [408] | [431]), "{rest:?}");
    }
}

#[test]
fn malformed_request_after_valid_ones_gets_a_problem_response() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[]);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (bad, status, code) in [
        ("NO HTTP\r\n\r\n", 400, "invalid_request"),
        (&many, 431, "headers_too_large"),
    ] {
        let mut stream = connect(&program);
        let all = [&LIVE.repeat(3)[..], bad.as_bytes()].concat();
        stream.write_all(&all).unwrap();
        let responses = read_to_end(&mut stream);
        assert_eq!(responses.matches("HTTP/1.1 200").count(), 3, "{responses}");
        let last = responses.rfind("HTTP/1.1 4").unwrap();
        assert_last_problem(&responses[last..], status, code);
    }
}

#[test]
fn metrics_count_connections_and_unreadable_requests() {
    let watched = Watched::start(&[("HEAD_SECONDS", "1"), ("MAX_CONNECTIONS_PER_ADDRESS", "3")]);
    let program = &watched.program;
    for (bad, status) in [
        ("NO HTTP\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nx: y", "408"),
        (&large_headers(), "431"),
    ] {
        let mut stream = connect(program);
        stream.write_all(bad.as_bytes()).unwrap();
        assert!(read_to_end(&mut stream).contains(status));
        let scrape = watched.scrape();
        let counted = scrape.sum("latchkey_unreadable_requests_total", &[("status", status)]);
        assert_eq!(counted, 1.0, "{status}");
    }
    let rejected = |reason| {
        let scrape = watched.scrape();
        scrape.sum("latchkey_connections_refused_total", &[("reason", reason)])
    };
    assert_eq!((rejected("client"), rejected("service")), (0.0, 0.0));
    let deadline = Instant::now() + TIMEOUT;
    while watched.scrape().sum("latchkey_connections", &[]) != 0.0 {
        assert!(
            Instant::now() < deadline,
            "closed connections are still counted"
        );
    }
    let mut open: Vec<_> = (0..3).map(|_| connect(program)).collect();
    for stream in &mut open {
        stream.write_all(LIVE).unwrap();
        read_response(stream).unwrap();
    }
    assert_eq!(watched.scrape().sum("latchkey_connections", &[]), 3.0);
    assert_last_problem(&read_to_end(&mut connect(program)), 503, "unavailable");
    assert_eq!((rejected("client"), rejected("service")), (1.0, 0.0));
}
