//! Clients that do with a connection what no HTTP library would.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::Program;

/// Nobody waits longer, whatever goes wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn address(program: &Program) -> &str {
    program.base.split("://").nth(1).expect("an address")
}

pub fn connect(program: &Program) -> TcpStream {
    let stream = TcpStream::connect(address(program)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes until the connection ends, in whatever way. Fails if it does not.
pub fn read_to_end(stream: &mut TcpStream) -> String {
    let (mut read, mut part) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => read.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("it is still open: {}", String::from_utf8_lossy(&read))
            }
            Err(_) => break,
        }
    }
    assert!(Instant::now() < deadline, "it does not end");
    String::from_utf8_lossy(&read).into_owned()
}

/// One answer, of which the length is known.
pub fn read_answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse::<usize>().expect("a length"))
            {
                return Ok(text.into_owned());
            }
        }
        if count == 0 {
            return Err(std::io::Error::other(format!("ended after {text:?}")));
        }
    }
}

/// Sends `start`, and then `again` and again, until the connection ends; answers what came of it.
pub fn drip(mut stream: TcpStream, start: &[u8], again: &'static [u8]) -> String {
    stream.write_all(start).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let (mut writer, told) = (stream.try_clone().unwrap(), ended.clone());
    let writing = thread::spawn(move || {
        while !told.load(Ordering::Relaxed) && writer.write_all(again).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let reply = read_to_end(&mut stream);
    ended.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    reply
}

/// Asserts that this is a whole problem in the contract's form, after which the connection ends.
#[track_caller]
pub fn assert_last_problem(reply: &str, status: u16, code: &str) {
    assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    let (head, body) = reply.split_once("\r\n\r\n").expect("an answer");
    let head = head.to_lowercase();
    assert!(
        head.contains("\r\ncontent-type: application/problem+json"),
        "{reply}"
    );
    assert!(head.contains("\r\nconnection: close"), "{reply}");
    for said in [
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
    ] {
        assert!(head.contains(&format!("\r\n{said}")), "no {said}: {reply}");
    }
    let problem: serde_json::Value = serde_json::from_str(body).expect(body);
    assert_eq!(problem["status"], status, "{reply}");
    assert_eq!(problem["code"], code, "{reply}");
    let id = problem["request_id"].as_str().expect("an id");
    assert!(head.contains(&format!("\r\nx-request-id: {id}")), "{reply}");
}
