//! `Expect: 100-continue` (RFC 9110 section 10.1.1): the service requests the body only if the headers are acceptable.

use std::io::{Read as _, Write as _};

use crate::{
    raw::{connect, read_response, read_to_end},
    support::{PASSWORD, Program, program::QUICK},
};

const JSON: &str = "content-type: application/json\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

fn start(folder: &tempfile::TempDir) -> Program {
    Program::start(folder.path(), &QUICK)
}

#[test]
fn body_of_a_request_rejected_by_its_headers_is_not_requested() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder);
    for (request, status) in [
        (
            format!("POST /nothing HTTP/1.1\r\n{JSON}content-length: 10\r\n"),
            404,
        ),
        (
            format!("DELETE /auth/login HTTP/1.1\r\n{JSON}content-length: 10\r\n"),
            405,
        ),
        (
            format!("POST /api-keys HTTP/1.1\r\n{JSON}content-length: 10\r\n"),
            401,
        ),
        (
            format!("POST /verify HTTP/1.1\r\n{JSON}transfer-encoding: chunked\r\n"),
            401,
        ),
        (
            format!("POST /auth/login HTTP/1.1\r\n{JSON}content-length: 70000\r\n"),
            413,
        ),
        (
            "POST /auth/login HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n"
                .into(),
            415,
        ),
        (
            "POST /auth/signup HTTP/1.1\r\ncontent-length: 10\r\n".into(),
            415,
        ),
    ] {
        let mut stream = connect(&program);
        write!(stream, "{request}host: x\r\nexpect: 100-continue\r\n\r\n").unwrap();
        let response = read_response(&mut stream).unwrap();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {response}"
        );
        // The client may send the body anyway. Then it would be unclear where the next request begins.
        assert!(
            response.contains("\r\nconnection: close\r\n"),
            "{request}: {response}"
        );
        assert_eq!(read_to_end(&mut stream), "", "{request}");
    }
}

#[test]
fn optional_body_with_a_wrong_media_type_is_rejected_without_100_continue() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder);
    let token = program.client().sign_up("ada@example.com");
    let token = token.header("authorization");
    let mut stream = connect(&program);
    write!(
        stream,
        "POST /api-keys HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-type: text/plain\r\n\
         content-length: 10\r\nexpect: 100-continue\r\n\r\n"
    )
    .unwrap();
    let response = read_response(&mut stream).unwrap();
    assert!(response.starts_with("HTTP/1.1 415 "), "{response}");
}

#[test]
fn accepted_body_is_requested_with_100_continue_and_the_connection_persists() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder);
    let mut stream = connect(&program);
    for (number, framing) in ["content-length", "transfer-encoding"].iter().enumerate() {
        let body = format!(r#"{{"email":"ada{number}@example.com","password":"{PASSWORD}"}}"#);
        let (length, body) = match number {
            0 => (body.len().to_string(), body),
            _ => (
                "chunked".into(),
                format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            ),
        };
        write!(
            stream,
            "POST /auth/signup HTTP/1.1\r\nhost: x\r\n{JSON}{framing}: {length}\r\n\
             expect: 100-continue\r\n\r\n"
        )
        .unwrap();
        let mut interim = vec![0; CONTINUE.len()];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(String::from_utf8_lossy(&interim), CONTINUE);
        stream.write_all(body.as_bytes()).unwrap();
        let response = read_response(&mut stream).unwrap();
        assert!(response.starts_with("HTTP/1.1 201 "), "{response}");
        assert!(!response.contains("connection: close"), "{response}");
    }
}

#[test]
fn request_without_a_pending_body_or_over_http_1_0_gets_no_100_continue() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder);
    for request in [
        "GET /health/live HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n".to_owned(),
        "POST /auth/logout HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n".into(),
        format!("POST /auth/login HTTP/1.1\r\nhost: x\r\n{JSON}expect: 100-continue\r\ncontent-length: 2\r\n\r\n{{}}"),
        format!("POST /auth/login HTTP/1.0\r\n{JSON}expect: 100-continue\r\ncontent-length: 2\r\n\r\n{{}}"),
    ] {
        let mut stream = connect(&program);
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_response(&mut stream).unwrap();
        assert!(!response.contains(" 100 Continue"), "{request}: {response}");
    }
}
