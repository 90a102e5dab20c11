//! Clients that take their time, and those that send too much: none is waited for for ever.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::text_of,
    raw::{PATIENCE, assert_last_problem, connect, drip, read_answer, read_to_end},
    support::{Client, Program},
};

const IMPATIENT: [(&str, &str); 6] = [
    ("PORT", "0"),
    ("BCRYPT_COST", "4"),
    ("HEAD_SECONDS", "1"),
    ("BODY_SECONDS", "1"),
    ("ANSWER_SECONDS", "1"),
    ("KEEP_ALIVE_SECONDS", "2"),
];

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

fn with_program(test: impl FnOnce(&Program)) {
    let folder = tempfile::tempdir().unwrap();
    test(&Program::start(folder.path(), &IMPATIENT));
}

/// A connection that has had an answer.
fn used(program: &Program) -> TcpStream {
    let mut stream = connect(program);
    stream.write_all(LIVE).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream
}

fn signup(more: &str) -> String {
    format!(
        "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{more}\r\n\r\n"
    )
}

#[test]
fn a_head_that_comes_byte_by_byte_is_cut_off_on_a_new_connection_and_on_one_that_was_used() {
    with_program(|program| {
        for open in [connect, used] {
            let reply = drip(open(program), b"GET /health/live HTTP/1.1\r\nx: ", b"y");
            assert_last_problem(&reply, 408, "request_timeout");
        }
        let reply = drip(connect(program), b"", b"\r\n");
        assert_last_problem(&reply, 408, "request_timeout");
    });
}

#[test]
fn a_body_that_comes_byte_by_byte_is_cut_off() {
    with_program(|program| {
        let reply = drip(
            connect(program),
            signup("content-length: 60000").as_bytes(),
            b" ",
        );
        assert_last_problem(&reply, 408, "request_timeout");
        let reply = drip(
            used(program),
            signup("transfer-encoding: chunked").as_bytes(),
            b"1\r\n \r\n",
        );
        assert_last_problem(&reply, 408, "request_timeout");
    });
}

#[test]
fn a_body_that_nobody_reads_and_that_does_not_end_is_cut_off() {
    with_program(|program| {
        for chunk in [
            &b"1\r\n \r\n"[..],
            &[b"ff00\r\n", &[b' '; 0xff00][..], b"\r\n"].concat(),
        ] {
            let chunk: &'static [u8] = Box::leak(chunk.into());
            let head =
                b"GET /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
            let reply = drip(connect(program), head, chunk);
            assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
            assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
        }
        let chunk = [b"ff00\r\n", &[b' '; 0xff00][..], b"\r\n"].concat();
        let head = signup("transfer-encoding: chunked");
        let reply = drip(connect(program), head.as_bytes(), Box::leak(chunk.into()));
        assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    });
}

#[test]
fn whoever_sends_nothing_is_cut_off() {
    with_program(|program| {
        assert_eq!(read_to_end(&mut connect(program)), "");
        assert_eq!(read_to_end(&mut used(program)), "");
    });
}

#[test]
fn whoever_takes_no_answers_is_cut_off() {
    with_program(|program| {
        let mut stream = connect(program);
        let page = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";
        let deadline = Instant::now() + PATIENCE;
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // More answers than all buffers on the way can hold; then the connection is gone.
        while stream.write_all(page).is_ok() {
            assert!(Instant::now() < deadline, "it is still open");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(program.client().get("/health/live").status, 200);
    });
}

#[test]
fn a_head_that_is_too_large_or_no_http_is_answered_in_the_contracts_form() {
    with_program(|program| {
        let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(33 * 1024));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
        for (head, status, code) in [
            (&large, 431, "headers_too_large"),
            (&many, 431, "headers_too_large"),
            (&"SOMETHING ELSE\r\n\r\n".to_owned(), 400, "invalid_request"),
        ] {
            for open in [connect, used] {
                let mut stream = open(program);
                stream.write_all(head.as_bytes()).unwrap();
                assert_last_problem(&read_to_end(&mut stream), status, code);
            }
        }
        // What is allowed.
        let mut stream = connect(program);
        let head = format!(
            "GET /health/live HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
            "y".repeat(30 * 1024)
        );
        stream.write_all(head.as_bytes()).unwrap();
        assert!(
            read_answer(&mut stream)
                .unwrap()
                .starts_with("HTTP/1.1 200")
        );
    });
}

#[test]
fn requests_in_a_row_without_waiting_are_all_answered() {
    with_program(|program| {
        let mut stream = connect(program);
        stream.write_all(&LIVE.repeat(10)).unwrap();
        let last = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(last).unwrap();
        let replies = read_to_end(&mut stream);
        assert_eq!(replies.matches("HTTP/1.1 200").count(), 11, "{replies}");
    });
}

/// Uses a key, again and again. The longest that an answer took, which must be less than this.
fn ask_in_a_row(caller: &Client, bound: Duration) -> Duration {
    let took = (0..300).map(|_| {
        let asked = Instant::now();
        assert_eq!(caller.get("/protected").status, 200);
        asked.elapsed()
    });
    let longest = took.max().unwrap();
    assert!(longest < bound, "{longest:?} of {bound:?}");
    longest
}

#[test]
fn beside_hundreds_of_slow_clients_good_ones_are_answered_and_the_slow_ones_are_cut_off() {
    with_program(|program| {
        let key = program.client().sign_up("ada@example.com").create_key();
        let caller = program.client().with_key(text_of(&key));
        let alone = ask_in_a_row(&caller, PATIENCE);
        let mut slow: Vec<_> = (0..400)
            .map(|n| {
                let mut stream = connect(program);
                // A third each: nothing, a part of a head, a part of a body.
                let sent = match n % 3 {
                    0 => String::new(),
                    1 => "GET / HTTP/1.1\r\nx:".to_owned(),
                    _ => signup("content-length: 100"),
                };
                stream.write_all(sent.as_bytes()).unwrap();
                stream
            })
            .collect();
        // Nobody waits for a slow one. The bound is generous: the machine has other things to do.
        ask_in_a_row(&caller, 4 * alone + Duration::from_secs(2));
        for (n, stream) in slow.iter_mut().enumerate() {
            let reply = read_to_end(stream);
            match n % 3 {
                0 => assert_eq!(reply, ""),
                _ => assert_last_problem(&reply, 408, "request_timeout"),
            }
        }
    });
}

#[test]
fn a_body_may_be_as_long_as_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("PORT", "0"),
        ("BCRYPT_COST", "4"),
        ("MAX_BODY_BYTES", "2000"),
    ];
    let program = Program::start(folder.path(), &settings);
    let padded = |length| {
        let body = serde_json::json!({"email": "ada@example.com", "password": "x".repeat(length)});
        program.client().post_json("/auth/signup", &body)
    };
    padded(1900).assert_problem(422, "validation_failed");
    let problem = padded(2100).assert_problem(413, "payload_too_large");
    assert!(problem["detail"].as_str().unwrap().contains("2000"));
    let mut rest = String::new();
    let mut stream = connect(&program);
    stream
        .write_all(signup("content-length: 2001").as_bytes())
        .unwrap();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 413"), "{rest}");
}
