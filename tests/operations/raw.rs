//! Raw HTTP clients for requests that no HTTP library would send.

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

/// Longest time that a test waits for the service.
pub const TIMEOUT: Duration = Duration::from_secs(60);

pub fn address(program: &Program) -> &str {
    program.base.split("://").nth(1).expect("an address")
}

pub fn connect(program: &Program) -> TcpStream {
    let stream = TcpStream::connect(address(program)).expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Reads until the connection ends or is reset. Panics if it stays open.
pub fn read_to_end(stream: &mut TcpStream) -> String {
    let (mut read, mut part) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => read.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!(
                    "the connection is still open: {}",
                    String::from_utf8_lossy(&read)
                )
            }
            Err(_) => break,
        }
    }
    assert!(Instant::now() < deadline, "the connection does not end");
    String::from_utf8_lossy(&read).into_owned()
}

/// Reads one response with a content length.
pub fn read_response(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut response = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part)?;
        response.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&response);
        if let Some((headers, body)) = text.split_once("\r\n\r\n") {
            let length = headers
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

/// Sends `start`, and then `again` every 20 ms until the connection ends. Returns the response.
pub fn drip(mut stream: TcpStream, start: &[u8], again: &'static [u8]) -> String {
    stream.write_all(start).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let (mut writer, stopped) = (stream.try_clone().unwrap(), ended.clone());
    let writing = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) && writer.write_all(again).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let reply = read_to_end(&mut stream);
    ended.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    reply
}

/// Asserts that this is a complete problem response that announces the end of the connection.
#[track_caller]
pub fn assert_last_problem(reply: &str, status: u16, code: &str) {
    assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    let (headers, body) = reply.split_once("\r\n\r\n").expect("a response");
    let headers = headers.to_lowercase();
    assert!(
        headers.contains("\r\ncontent-type: application/problem+json"),
        "{reply}"
    );
    assert!(headers.contains("\r\nconnection: close"), "{reply}");
    for header in [
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
    ] {
        assert!(
            headers.contains(&format!("\r\n{header}")),
            "no {header}: {reply}"
        );
    }
    let problem: serde_json::Value = serde_json::from_str(body).expect(body);
    assert_eq!(problem["status"], status, "{reply}");
    assert_eq!(problem["code"], code, "{reply}");
    let id = problem["request_id"].as_str().expect("an id");
    assert!(
        headers.contains(&format!("\r\nx-request-id: {id}")),
        "{reply}"
    );
}
