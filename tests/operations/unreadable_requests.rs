//! Requests that the connection has to answer itself, whatever comes before them on it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    metrics::Watched,
    raw::{PATIENCE, address, assert_last_problem, connect, drip, read_answer, read_to_end},
    support::{Program, program::QUICK},
};

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
const PAGE: &[u8] = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";
const SIGNUP: &str = "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

fn start(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Program {
    Program::start(folder.path(), &[&QUICK[..], more].concat())
}

fn large_head() -> String {
    format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(75_000))
}

/// A connection on which a body has come that does not say how long it is.
fn after_chunks(program: &Program) -> TcpStream {
    let mut stream = connect(program);
    let chunked = format!("{SIGNUP}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    stream.write_all(chunked.as_bytes()).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    assert!(!answer.to_lowercase().contains("\r\nconnection: close"));
    stream
}

#[test]
fn after_a_chunked_body_a_head_is_measured_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[("HEAD_SECONDS", "1")]);
    let mut stream = after_chunks(&program);
    stream.write_all(large_head().as_bytes()).unwrap();
    assert_last_problem(&read_to_end(&mut stream), 431, "headers_too_large");
    let slow = drip(after_chunks(&program), b"GET / HTTP/1.1\r\nx: ", b"y");
    assert_last_problem(&slow, 408, "request_timeout");
    // One that nobody reads and that has arrived whole does not end the connection.
    let mut stream = connect(&program);
    let unread = [
        b"GET /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        &b"2\r\n{}\r\n0\r\n\r\n"[..],
    ];
    stream.write_all(&unread.concat()).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.to_lowercase().contains("\r\nconnection: close"));
    stream.write_all(large_head().as_bytes()).unwrap();
    assert_last_problem(&read_to_end(&mut stream), 431, "headers_too_large");
}

/// Takes answers apart by their length. Panics if they are anything but whole.
fn statuses(mut answers: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !answers.is_empty() {
        let end = answers.windows(4).position(|part| part == b"\r\n\r\n");
        let head = String::from_utf8(answers[..end.expect("a head")].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .strip_prefix("HTTP/1.1 ")
            .expect("a status");
        statuses.push(status[..3].parse().unwrap());
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().unwrap();
        answers = answers[head.len() + 4..]
            .get(length..)
            .expect("a whole answer");
    }
    statuses
}

/// A client for which little waits to be read: what the service sends it has to keep.
fn connect_with_little_room(program: &Program) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let target: SocketAddr = address(program).parse().unwrap();
    socket.connect(&target.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn nothing_is_said_in_the_middle_of_another_answer() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[("WORKERS", "1"), ("HEAD_SECONDS", "1")]);
    for last in [large_head(), "GET / HTTP/1.1\r\nx: y".to_owned()] {
        let mut stream = connect_with_little_room(&program);
        stream.write_all(&PAGE.repeat(8)).unwrap();
        // More than all buffers on the way hold is still to come.
        let mut answers = vec![0; 1_000_000];
        stream.read_exact(&mut answers).unwrap();
        // Until it has written what there is room for.
        thread::sleep(Duration::from_millis(300));
        let is_slow = last.len() < 100;
        if is_slow {
            stream.write_all(last.as_bytes()).unwrap();
            // Until it is read, and for a part of its time.
            thread::sleep(Duration::from_millis(500));
        }
        // Where it goes on there is room for more of the answer, and the head is too large or too late.
        program.signal("STOP");
        let mut part = vec![0; 1 << 20];
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        while let Ok(count @ 1..) = stream.read(&mut part) {
            answers.extend_from_slice(&part[..count]);
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match is_slow {
            true => thread::sleep(Duration::from_millis(700)),
            false => stream.write_all(last.as_bytes()).unwrap(),
        }
        program.signal("CONT");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match stream.read(&mut part) {
                Ok(count @ 1..) => answers.extend_from_slice(&part[..count]),
                Ok(_) => break,
                Err(error) => panic!("{error} after {} bytes", answers.len()),
            }
            assert!(Instant::now() < deadline, "it does not end");
        }
        let statuses = statuses(&answers);
        let (pages, rest) = statuses.split_at(8);
        assert_eq!(pages, [200; 8]);
        // Behind them it may be said, if it was read when they were sent.
        assert!(matches!(rest, [] | [408] | [431]), "{rest:?}");
    }
}

#[test]
fn behind_good_requests_what_is_no_http_is_answered_in_the_contracts_form() {
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
        let answers = read_to_end(&mut stream);
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
        let last = answers.rfind("HTTP/1.1 4").unwrap();
        assert_last_problem(&answers[last..], status, code);
    }
}

#[test]
fn metrics_tell_of_connections_and_of_what_they_answer_themselves() {
    let watched = Watched::start(&[("HEAD_SECONDS", "1"), ("MAX_CONNECTIONS_PER_ADDRESS", "3")]);
    let program = &watched.program;
    for (bad, status) in [
        ("NO HTTP\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nx: y", "408"),
        (&large_head(), "431"),
    ] {
        let mut stream = connect(program);
        stream.write_all(bad.as_bytes()).unwrap();
        assert!(read_to_end(&mut stream).contains(status));
        let scrape = watched.scrape();
        let counted = scrape.sum("latchkey_unreadable_requests_total", &[("status", status)]);
        assert_eq!(counted, 1.0, "{status}");
    }
    let refused = |reason| {
        let scrape = watched.scrape();
        scrape.sum("latchkey_connections_refused_total", &[("reason", reason)])
    };
    assert_eq!((refused("client"), refused("service")), (0.0, 0.0));
    let deadline = Instant::now() + PATIENCE;
    while watched.scrape().sum("latchkey_connections", &[]) != 0.0 {
        assert!(
            Instant::now() < deadline,
            "connections that are gone are counted"
        );
    }
    let mut open: Vec<_> = (0..3).map(|_| connect(program)).collect();
    for stream in &mut open {
        stream.write_all(LIVE).unwrap();
        read_answer(stream).unwrap();
    }
    assert_eq!(watched.scrape().sum("latchkey_connections", &[]), 3.0);
    assert_last_problem(&read_to_end(&mut connect(program)), 503, "unavailable");
    assert_eq!((refused("client"), refused("service")), (1.0, 0.0));
}
