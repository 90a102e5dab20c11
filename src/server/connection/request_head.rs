//! The header section of a request, read as it comes: where it ends, what body it announces, and what the
//! HTTP library must not see of it.
//!
//! The library answers `Expect: 100-continue` before the app has seen the request, and takes every
//! `Upgrade` for one that will happen. So both are blanked out in place. What is not sound in a header
//! section is left to the library, which rejects it; then nothing behind it is handed over.

/// Finds the end of one header section. Its bytes may come in any number of pieces.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Where the first line begins that has not ended yet.
    line: usize,
    /// Up to where no further line end was found.
    searched: usize,
    has_request_line: bool,
    is_http_1_0: bool,
    is_post: bool,
    is_connect: bool,
    closes: bool,
    keeps_alive: bool,
    expects_continue: bool,
    length: Option<u64>,
    is_chunked: bool,
    /// The library rejects it, since nobody could say where its body ends.
    is_unsound: bool,
}

/// A header section that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its length in bytes, with the empty line.
    pub end: usize,
    /// Where a further header field can be inserted.
    pub fields_end: usize,
    pub body: Announced,
    /// Whether the client wants no further response on the connection.
    pub is_last: bool,
    pub expects_continue: bool,
    /// Whether it is a `POST` of HTTP/1.0 without a `Content-Length`, as nginx sends one without a body by
    /// default. The library demands the field (RFC 1945 section 7.2.2); RFC 9112 section 6.3 has that
    /// the body is empty.
    pub lacks_length: bool,
}

/// What a header section says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    Length(u64),
    Chunked,
    /// Where it ends is uncertain, or it is `CONNECT`, behind which there is no further request.
    Uncertain,
}

/// This is no request: no request line of HTTP/1.1, a line that is no field, or a `Host` that is none
/// (RFC 9112 section 3.2). The library finds out more, but only of a complete header section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRequest;

impl HeadReader {
    /// Reads on. `bytes` are all that came of the header section so far, and may be followed by more.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<Option<Head>, NoRequest> {
        while let Some(at) = bytes[self.searched..].iter().position(|b| *b == b'\n') {
            let (start, end) = (self.line, self.searched + at + 1);
            (self.line, self.searched) = (end, end);
            let line = &mut bytes[start..end - 1];
            let line = match line {
                [line @ .., b'\r'] => line,
                line => line,
            };
            match (line.is_empty(), self.has_request_line) {
                (true, true) => return Ok(Some(self.complete(start, end))),
                // RFC 9112 section 2.2: empty lines before a request are ignored.
                (true, false) => {}
                (false, false) => self.read_request_line(line)?,
                (false, true) => self.read_field(line)?,
            }
        }
        self.searched = bytes.len();
        match bytes.get(self.line) {
            // Such as a handshake of TLS, which has no line that would end.
            Some(first) if !first.is_ascii_graphic() && !first.is_ascii_whitespace() => {
                Err(NoRequest)
            }
            _ => Ok(None),
        }
    }

    fn complete(&self, fields_end: usize, end: usize) -> Head {
        let is_chunked = self.is_chunked && !self.is_http_1_0;
        let body = match self.length {
            _ if self.is_unsound || self.is_connect => Announced::Uncertain,
            Some(_) if self.is_chunked => Announced::Uncertain,
            None if self.is_chunked && self.is_http_1_0 => Announced::Uncertain,
            None if is_chunked => Announced::Chunked,
            length => Announced::Length(length.unwrap_or(0)),
        };
        let has_body = body != Announced::Length(0);
        Head {
            end,
            fields_end,
            body,
            is_last: self.closes
                || (self.is_http_1_0 && !self.keeps_alive)
                || body == Announced::Uncertain,
            expects_continue: self.expects_continue && !self.is_http_1_0 && has_body,
            lacks_length: self.is_http_1_0
                && self.is_post
                && self.length.is_none()
                && body == Announced::Length(0),
        }
    }

    fn read_request_line(&mut self, line: &[u8]) -> Result<(), NoRequest> {
        self.has_request_line = true;
        self.is_http_1_0 = line.ends_with(b" HTTP/1.0");
        self.is_post = line.starts_with(b"POST ");
        self.is_connect = line.starts_with(b"CONNECT ");
        match self.is_http_1_0 || line.ends_with(b" HTTP/1.1") {
            true => Ok(()),
            false => Err(NoRequest),
        }
    }

    fn read_field(&mut self, line: &mut [u8]) -> Result<(), NoRequest> {
        let colon = line.iter().position(|b| *b == b':').ok_or(NoRequest)?;
        let (name, value) = line.split_at_mut(colon);
        let value = &mut value[1..];
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => return check_host(value.trim_ascii()),
            6 if is(b"expect") => {
                self.expects_continue |= list(value).any(|item| equal(item, b"100-continue"));
                value.fill(b' ');
            }
            7 if is(b"upgrade") => value.fill(b' '),
            10 if is(b"connection") => self.read_connection(value),
            14 if is(b"content-length") => {
                let length = decimal(value.trim_ascii());
                self.is_unsound |= length.is_none() || self.length.is_some();
                self.length = length;
            }
            17 if is(b"transfer-encoding") => {
                self.is_unsound |= self.is_chunked || !equal(value.trim_ascii(), b"chunked");
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn read_connection(&mut self, value: &mut [u8]) {
        for option in value.split_mut(|b| *b == b',') {
            match option.trim_ascii() {
                close if equal(close, b"close") => self.closes = true,
                keep if equal(keep, b"keep-alive") => self.keeps_alive = true,
                upgrade if equal(upgrade, b"upgrade") => option.fill(b' '),
                _ => {}
            }
        }
    }
}

fn equal(text: &[u8], known: &[u8]) -> bool {
    text.eq_ignore_ascii_case(known)
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// Accepts the characters of a host and a port (RFC 3986 section 3.2), and an empty value.
fn check_host(value: &[u8]) -> Result<(), NoRequest> {
    let is_valid = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(b);
    match value.iter().all(is_valid) {
        true => Ok(()),
        false => Err(NoRequest),
    }
}

#[cfg(test)]
#[path = "request_head_tests.rs"]
mod tests;
