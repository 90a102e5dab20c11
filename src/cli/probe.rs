//! Asks a server one thing over HTTP/1.1, without an HTTP client: only the answer's status is of interest.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    str::FromStr,
    time::{Duration, Instant},
};

use native_tls::{HandshakeError, TlsConnector};

/// More than the head of any answer of ours.
const MAX_HEAD: u64 = 16 * 1024;

/// Where a server is: `http://host:port`, or `https://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub tls: bool,
    /// As in a URL: an IPv6 address stands in brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for ServerUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text).ok_or(
            "must be http://HOST:PORT or https://HOST:PORT, and nothing after it, such as \
             http://127.0.0.1:8000",
        )
    }
}

impl ServerUrl {
    fn read(text: &str) -> Option<Self> {
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://")?),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (rest, if tls { 443 } else { 80 }),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        let is_host = !host.is_empty() && host.bytes().all(is_plain);
        (is_host && port > 0).then(|| Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }
}

/// The status that `GET path` is answered with, within this time.
pub(super) fn status(server: &ServerUrl, path: &str, within: Duration) -> io::Result<u16> {
    let deadline = Deadline(Instant::now() + within);
    let stream = connect(server, &deadline)?;
    let timed = Timed { stream, deadline };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}:{}\r\nuser-agent: latchkey health\r\nconnection: close\r\n\r\n",
        server.host, server.port
    );
    if server.tls {
        exchange(over_tls(&server.host, timed)?, &request)
    } else {
        exchange(timed, &request)
    }
}

fn connect(server: &ServerUrl, deadline: &Deadline) -> io::Result<TcpStream> {
    let host = server.host.trim_matches(['[', ']']);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, server.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Without a look at whose certificate it is: that names the service as its clients know it, not the
/// address of this machine that is asked here. Nothing that is secret is sent, and an impostor on it could
/// say no more than that the service is well.
fn over_tls<S: Read + Write>(host: &str, stream: S) -> io::Result<impl Read + Write> {
    let connector = TlsConnector::builder()
        .danger_accept_invalid_certs(true)
        .danger_accept_invalid_hostnames(true)
        .build()
        .map_err(io::Error::other)?;
    connector
        .connect(host, stream)
        .map_err(|error| match error {
            HandshakeError::Failure(error) => io::Error::other(error),
            HandshakeError::WouldBlock(_) => io::ErrorKind::TimedOut.into(),
        })
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<u16> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut head = Vec::new();
    let mut stream = stream.take(MAX_HEAD);
    let mut bytes = [0; 1024];
    while !head.contains(&b'\n') {
        match stream.read(&mut bytes)? {
            0 => break,
            read => head.extend_from_slice(&bytes[..read]),
        }
    }
    let line = String::from_utf8_lossy(&head);
    let code = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_ascii_whitespace().nth(1))
        .and_then(|code| code.parse().ok());
    code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    /// What is left of the time, or that nothing is.
    fn left(&self) -> io::Result<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// A connection all of whose use together has a time limit, also if the other side sends a byte now
/// and then.
struct Timed {
    stream: TcpStream,
    deadline: Deadline,
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        self.stream.read(bytes).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left()?))?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A socket whose time is over says that it would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, read) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://[::1]:8000/", "http://[::1]:8000"),
            ("https://keys.example.com", "https://keys.example.com:443"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            let parsed: ServerUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), read);
        }
        for url in [
            "",
            "127.0.0.1:8000",
            "ftp://x",
            "http://",
            "http://x:0",
            "http://x:y",
            "http://x/path",
            "http://user@x",
            "http://x\r\nhost: y",
        ] {
            assert!(url.parse::<ServerUrl>().is_err(), "{url}");
        }
    }
}
