//! Request framing: bodies over HTTP/1.0, chunk extensions and trailers, and requests with an ambiguous length.

use std::io::Write as _;

use crate::{
    raw::{assert_last_problem, connect, read_response, read_to_end},
    support::{Program, program::QUICK},
};

const JSON: &str = "content-type: application/json\r\n";
const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

fn with_program(test: impl FnOnce(&Program)) {
    let folder = tempfile::tempdir().unwrap();
    test(&Program::start(folder.path(), &QUICK));
}

fn chunked(path: &str, rest: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{JSON}transfer-encoding: chunked\r\n\r\n{rest}")
}

/// Sends a request and reads until the connection ends. The service may close it before everything is sent.
fn send_to_end(program: &Program, request: &str) -> String {
    let mut stream = connect(program);
    let _ = stream.write_all(request.as_bytes());
    read_to_end(&mut stream)
}

#[test]
fn http_1_0_post_without_a_length_has_an_empty_body() {
    with_program(|program| {
        let user = program.client().sign_up("ada@example.com");
        let token = user.header("authorization");
        for version in ["1.0", "1.1"] {
            let request = format!(
                "POST /api-keys HTTP/{version}\r\nhost: x\r\nconnection: close\r\nauthorization: {token}\r\n\r\n"
            );
            let reply = send_to_end(program, &request);
            assert!(reply.contains(" 201 Created"), "{reply}");
        }
        let reply = send_to_end(program, &format!("POST /auth/login HTTP/1.0\r\n{JSON}\r\n"));
        assert!(reply.starts_with("HTTP/1.0 400 "), "{reply}");
        assert!(reply.contains("invalid_json"), "{reply}");
        // A proxy with keep-alive connections.
        let mut stream = connect(program);
        for _ in 0..3 {
            let request = "POST /auth/logout HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            let response = read_response(&mut stream).unwrap();
            assert!(response.starts_with("HTTP/1.0 401 "), "{response}");
            assert!(response.contains("connection: keep-alive"), "{response}");
        }
    });
}

#[test]
fn chunk_extensions_trailers_and_sizes_count_towards_the_body_limit() {
    with_program(|program| {
        for rest in [
            format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(70_000)),
            format!("{}2\r\n{{}}\r\n0\r\n\r\n", "0".repeat(70_000)),
            format!("2\r\n{{}}\r\n0\r\nx: {}\r\n\r\n", "y".repeat(70_000)),
            format!("2\r\n{{}}\r\n0\r\n{}\r\n", "x: y\r\n".repeat(20_000)),
            format!(
                "{}0\r\n\r\n",
                format!("1;{}\r\n \r\n", "x".repeat(10)).repeat(10_000)
            ),
        ] {
            let reply = send_to_end(program, &chunked("/auth/login", &rest));
            assert_last_part(&reply, 413, "payload_too_large");
        }
        // Legitimate use: some of each, and 10,000 chunks of one byte.
        let rest = format!(
            "2;a=\"b\"\r\n{{}}\r\n{}0\r\nx: y\r\n\r\n",
            "1\r\n \r\n".repeat(10_000)
        );
        let mut stream = connect(program);
        stream
            .write_all(chunked("/auth/login", &rest).as_bytes())
            .unwrap();
        let response = read_response(&mut stream).unwrap();
        assert!(response.starts_with("HTTP/1.1 422 "), "{response}");
        stream.write_all(LIVE.as_bytes()).unwrap();
        assert!(
            read_response(&mut stream)
                .unwrap()
                .starts_with("HTTP/1.1 200 ")
        );
    });
}

/// Asserts that the reply is exactly one problem response that announces the end of the connection.
#[track_caller]
fn assert_last_part(reply: &str, status: u16, code: &str) {
    assert_eq!(reply.matches("\r\ndate: ").count(), 1, "{reply}");
    assert_last_problem(reply, status, code);
}

#[test]
fn malformed_chunked_body_is_rejected_and_later_requests_are_not_executed() {
    with_program(|program| {
        for rest in [
            "zz\r\n{}\r\n0\r\n\r\n",
            "2\n{}\r\n0\r\n\r\n",
            "2\r\n{}x\r\n0\r\n\r\n",
            "2 x\r\n{}\r\n0\r\n\r\n",
            "-2\r\n{}\r\n0\r\n\r\n",
            "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            "2;a\nb\r\n{}\r\n0\r\n\r\n",
            // A lone line feed in a trailer: other servers might take the following bytes for the next request.
            "2\r\n{}\r\n0\r\nx: y\n\n",
            "2\r\n{}\r\n0\r\n\n",
        ] {
            let reply = send_to_end(program, &format!("{}{LIVE}", chunked("/auth/login", rest)));
            assert_last_part(&reply, 400, "invalid_request");
        }
    });
}

#[test]
fn request_with_ambiguous_framing_is_rejected_and_later_requests_are_not_executed() {
    with_program(|program| {
        for fields in [
            "content-length: 2\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: identity\r\n",
            "content-length: 2\r\ncontent-length: 2\r\n",
            "content-length: 2, 2\r\n",
            "content-length: +2\r\n",
            "content-length: -2\r\n",
            "content-length: 0x2\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999999\r\n",
            "content-length : 2\r\n",
            "x: a\r\n content-length: 2\r\n",
            "host: y\r\n",
            "x: a\rcontent-length: 2\r\n",
        ] {
            let request =
                format!("POST /auth/login HTTP/1.1\r\nhost: x\r\n{JSON}{fields}\r\n{{}}{LIVE}");
            assert_last_part(&send_to_end(program, &request), 400, "invalid_request");
        }
        let old =
            format!("POST /auth/login HTTP/1.0\r\n{JSON}transfer-encoding: chunked\r\n\r\n{LIVE}");
        assert_last_part(&send_to_end(program, &old), 400, "invalid_request");
    });
}

#[test]
fn missing_or_invalid_host_header_is_rejected() {
    with_program(|program| {
        for host in [
            "",
            "host: a b\r\n",
            "host: a/b\r\n",
            "host: user@a\r\n",
            "host: \"a\"\r\n",
            "host: ä\r\n",
        ] {
            let reply = send_to_end(
                program,
                &format!("GET /health/live HTTP/1.1\r\n{host}\r\n{LIVE}"),
            );
            assert_last_part(&reply, 400, "invalid_request");
        }
        for host in [
            "example.com:80",
            "[::1]:8000",
            "a_b.internal",
            "",
            "xn--bcher-kva.example",
        ] {
            let request =
                format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let reply = send_to_end(program, &request);
            assert!(reply.starts_with("HTTP/1.1 200 "), "{host}: {reply}");
        }
        // The target names the host; RFC 9112 section 3.2.2.
        let absolute =
            "GET http://other.example/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert!(send_to_end(program, absolute).starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn unsupported_method_is_405_with_an_allow_header() {
    with_program(|program| {
        for (path, allow) in [
            ("/health/live", "GET, HEAD"),
            ("/protected", "GET, HEAD"),
            ("/api-keys", "GET, HEAD, POST"),
            ("/openapi.json", "GET, HEAD"),
            ("/docs/", "GET, HEAD"),
            ("/docs/swagger-ui.css", "GET, HEAD"),
            ("/", "GET, HEAD"),
        ] {
            for method in ["TRACE", "PROPFIND", "OPTIONS", "PATCH"] {
                let request =
                    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
                let reply = send_to_end(program, &request);
                assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
                assert!(reply.contains("\"method_not_allowed\""), "{reply}");
                assert!(
                    reply.contains(&format!("\r\nallow: {allow}\r\n")),
                    "{reply}"
                );
            }
        }
        // Gateways forward the method of the client to /forward-auth.
        let request = "TRACE /forward-auth HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert_last_part(&send_to_end(program, request), 401, "missing_credentials");
    });
}
