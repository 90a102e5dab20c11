//! `Expect: 100-continue` (RFC 9110 section 10.1.1): a client is told to send its body only where it is wanted.

use std::io::{Read as _, Write as _};

use crate::{
    raw::{connect, read_answer, read_to_end},
    support::{PASSWORD, Program, program::QUICK},
};

const JSON: &str = "content-type: application/json\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

fn start(folder: &tempfile::TempDir) -> Program {
    Program::start(folder.path(), &QUICK)
}

#[test]
fn body_that_the_header_section_decides_against_is_not_asked_for() {
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
        let answer = read_answer(&mut stream).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        // The client may send the body all the same: nobody could say where the next request begins.
        assert!(
            answer.contains("\r\nconnection: close\r\n"),
            "{request}: {answer}"
        );
        assert_eq!(read_to_end(&mut stream), "", "{request}");
    }
}

#[test]
fn wrong_media_type_of_an_optional_body_is_rejected_without_asking_for_it() {
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
    let answer = read_answer(&mut stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
}

#[test]
fn body_that_is_wanted_is_asked_for_and_the_connection_persists() {
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
        let answer = read_answer(&mut stream).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[test]
fn request_without_a_body_or_with_it_at_hand_or_of_http_1_0_gets_no_100() {
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
        let answer = read_answer(&mut stream).unwrap();
        assert!(!answer.contains(" 100 Continue"), "{request}: {answer}");
    }
}
