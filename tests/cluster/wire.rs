//! A client that uses a key, and can send now and read the answer later.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// One keep-alive connection, made again when it is lost.
pub struct Wire {
    address: String,
    stream: Option<TcpStream>,
}

/// What `/protected` answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Wire {
    pub fn to(base: &str) -> Self {
        Self {
            address: base.trim_start_matches("http://").to_owned(),
            stream: None,
        }
    }

    /// Uses the key. `None` if the connection ended without an answer.
    pub fn ask(&mut self, key: &str) -> Option<Answer> {
        self.send(key);
        self.receive()
    }

    pub fn send(&mut self, key: &str) {
        let request = format!("GET /protected HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n");
        let mut stream = self.stream.take().or_else(|| open(&self.address).ok());
        if let Some(stream) = &mut stream {
            // Whether it failed is seen when there is no answer.
            let _ = stream.write_all(request.as_bytes());
        }
        self.stream = stream;
    }

    pub fn receive(&mut self) -> Option<Answer> {
        let answer = self.stream.as_mut().and_then(read);
        let goes_on = answer
            .as_ref()
            .is_some_and(|answer| answer.header("connection") != Some("close"));
        if !goes_on {
            self.stream = None;
        }
        answer
    }
}

fn open(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

fn read(stream: &mut TcpStream) -> Option<Answer> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer).ok().filter(|&length| length > 0)?;
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if body.len() >= header(head, "content-length").map_or(0, |l| l.parse().unwrap()) {
            return Some(Answer {
                status: head.split(' ').nth(1)?.parse().ok()?,
                head: head.to_owned(),
                body: body.to_owned(),
            });
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|line| line.0.eq_ignore_ascii_case(name))
        .map(|line| line.1)
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}
