//! HTTP client that uses a key at `/protected`, and can send a request now and read the response later.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// A keep-alive connection that is opened again when it is lost.
pub struct Wire {
    address: String,
    stream: Option<TcpStream>,
}

/// Response of `/protected`.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    headers: String,
    pub body: String,
}

impl Wire {
    pub fn to(base: &str) -> Self {
        Self {
            address: base.trim_start_matches("http://").to_owned(),
            stream: None,
        }
    }

    /// Sends a request with the key. Returns `None` if the connection ends without a response.
    pub fn use_key(&mut self, key: &str) -> Option<Response> {
        self.send(key);
        self.receive()
    }

    pub fn send(&mut self, key: &str) {
        let request = format!("GET /protected HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n");
        let mut stream = self.stream.take().or_else(|| open(&self.address).ok());
        if let Some(stream) = &mut stream {
            // A failure is detected later, when there is no response.
            let _ = stream.write_all(request.as_bytes());
        }
        self.stream = stream;
    }

    pub fn receive(&mut self) -> Option<Response> {
        let response = self.stream.as_mut().and_then(read);
        let persists = response
            .as_ref()
            .is_some_and(|response| response.header("connection") != Some("close"));
        if !persists {
            self.stream = None;
        }
        response
    }
}

fn open(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

fn read(stream: &mut TcpStream) -> Option<Response> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer).ok().filter(|&length| length > 0)?;
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((headers, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if body.len() >= header(headers, "content-length").map_or(0, |l| l.parse().unwrap()) {
            return Some(Response {
                status: headers.split(' ').nth(1)?.parse().ok()?,
                headers: headers.to_owned(),
                body: body.to_owned(),
            });
        }
    }
}

fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = headers.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|line| line.0.eq_ignore_ascii_case(name))
        .map(|line| line.1)
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}
