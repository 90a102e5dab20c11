//! Slow clients and oversized requests: each connection has time and size limits.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    keys::full_key,
    raw::{TIMEOUT, assert_last_problem, connect, drip, read_response, read_to_end},
    support::{Client, Program},
};

const SHORT_TIMEOUTS: [(&str, &str); 6] = [
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
    test(&Program::start(folder.path(), &SHORT_TIMEOUTS));
}

/// Opens a connection and completes one request on it.
fn connect_and_use(program: &Program) -> TcpStream {
    let mut stream = connect(program);
    stream.write_all(LIVE).unwrap();
    let response = read_response(&mut stream).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    stream
}

fn signup(more: &str) -> String {
    format!(
        "POST /auth/signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{more}\r\n\r\n"
    )
}

#[test]
fn slow_request_headers_time_out_on_new_and_reused_connections() {
    with_program(|program| {
        for open in [connect, connect_and_use] {
            let reply = drip(open(program), b"GET /health/live HTTP/1.1\r\nx: ", b"y");
            assert_last_problem(&reply, 408, "request_timeout");
        }
        let reply = drip(connect(program), b"", b"\r\n");
        assert_last_problem(&reply, 408, "request_timeout");
    });
}

#[test]
fn slow_request_body_times_out() {
    with_program(|program| {
        let reply = drip(
            connect(program),
            signup("content-length: 60000").as_bytes(),
            b" ",
        );
        assert_last_problem(&reply, 408, "request_timeout");
        let reply = drip(
            connect_and_use(program),
            signup("transfer-encoding: chunked").as_bytes(),
            b"1\r\n \r\n",
        );
        assert_last_problem(&reply, 408, "request_timeout");
    });
}

#[test]
fn endless_unread_body_is_cut_off() {
    with_program(|program| {
        for chunk in [
            &b"1\r\n \r\n"[..],
            &[b"ff00\r\n", &[b' '; 0xff00][..], b"\r\n"].concat(),
        ] {
            let chunk: &'static [u8] = Box::leak(chunk.into());
            let headers =
                b"GET /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
            let reply = drip(connect(program), headers, chunk);
            assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
            assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
        }
        let chunk = [b"ff00\r\n", &[b' '; 0xff00][..], b"\r\n"].concat();
        let headers = signup("transfer-encoding: chunked");
        let reply = drip(
            connect(program),
            headers.as_bytes(),
            Box::leak(chunk.into()),
        );
        assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    });
}

#[test]
fn silent_connection_is_closed() {
    with_program(|program| {
        assert_eq!(read_to_end(&mut connect(program)), "");
        assert_eq!(read_to_end(&mut connect_and_use(program)), "");
    });
}

#[test]
fn connection_with_unread_responses_is_closed() {
    with_program(|program| {
        let mut stream = connect(program);
        let page = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";
        let deadline = Instant::now() + TIMEOUT;
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        // More responses than all buffers on the way can hold. Then the service closes the connection.
        while stream.write_all(page).is_ok() {
            assert!(Instant::now() < deadline, "the connection is still open");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(program.client().get("/health/live").status, 200);
    });
}

#[test]
fn oversized_or_malformed_request_headers_get_a_problem_response() {
    with_program(|program| {
        let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(33 * 1024));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
        for (headers, status, code) in [
            (&large, 431, "headers_too_large"),
            (&many, 431, "headers_too_large"),
            (&"SOMETHING ELSE\r\n\r\n".to_owned(), 400, "invalid_request"),
        ] {
            for open in [connect, connect_and_use] {
                let mut stream = open(program);
                stream.write_all(headers.as_bytes()).unwrap();
                assert_last_problem(&read_to_end(&mut stream), status, code);
            }
        }
        // A request within the limits.
        let mut stream = connect(program);
        let headers = format!(
            "GET /health/live HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
            "y".repeat(30 * 1024)
        );
        stream.write_all(headers.as_bytes()).unwrap();
        assert!(
            read_response(&mut stream)
                .unwrap()
                .starts_with("HTTP/1.1 200")
        );
    });
}

#[test]
fn pipelined_requests_all_get_responses() {
    with_program(|program| {
        let mut stream = connect(program);
        stream.write_all(&LIVE.repeat(10)).unwrap();
        let last = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(last).unwrap();
        let replies = read_to_end(&mut stream);
        assert_eq!(replies.matches("HTTP/1.1 200").count(), 11, "{replies}");
    });
}

/// Uses a key 300 times. Returns the longest response time, which must be below `bound`.
fn check_repeatedly(caller: &Client, bound: Duration) -> Duration {
    let took = (0..300).map(|_| {
        let started = Instant::now();
        assert_eq!(caller.get("/protected").status, 200);
        started.elapsed()
    });
    let longest = took.max().unwrap();
    assert!(longest < bound, "{longest:?} of {bound:?}");
    longest
}

#[test]
fn hundreds_of_slow_clients_time_out_and_do_not_delay_others() {
    with_program(|program| {
        let key = program.client().sign_up("ada@example.com").create_key();
        let caller = program.client().with_key(full_key(&key));
        let alone = check_repeatedly(&caller, TIMEOUT);
        let mut slow: Vec<_> = (0..400)
            .map(|n| {
                let mut stream = connect(program);
                // One third each: nothing, a part of the headers, a part of the body.
                let sent = match n % 3 {
                    0 => String::new(),
                    1 => "GET / HTTP/1.1\r\nx:".to_owned(),
                    _ => signup("content-length: 100"),
                };
                stream.write_all(sent.as_bytes()).unwrap();
                stream
            })
            .collect();
        // Other clients do not wait for slow ones. The bound is generous, because the machine may be busy.
        check_repeatedly(&caller, 4 * alone + Duration::from_secs(2));
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
fn body_limit_follows_max_body_bytes() {
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
