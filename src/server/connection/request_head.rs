//! Incremental reader of the header section of a request: finds its end and the framing of the body, and hides some
//! fields from the HTTP library.
//!
//! The library responds to `Expect: 100-continue` before the app has seen the request, and assumes that every `Upgrade`
//! will be performed. Therefore both are overwritten with spaces in place. An invalid header section is left to the
//! library, which rejects it; then nothing after it is passed on.

/// Reader of one header section, whose bytes may arrive in any number of pieces.
#[derive(Debug, Default)]
pub(super) struct HeaderReader {
    /// Start of the first incomplete line.
    line: usize,
    /// Index up to which the search for line ends is complete.
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
    /// True if the end of the body is ambiguous. The library rejects such a request.
    is_ambiguous: bool,
}

/// Properties of a complete header section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeaderSection {
    /// Length in bytes, including the empty line at the end.
    pub end: usize,
    /// Index at which a further header field can be inserted.
    pub fields_end: usize,
    pub body: BodyFraming,
    /// True if no further request on the connection will be accepted.
    pub closes: bool,
    pub expects_continue: bool,
    /// True for an HTTP/1.0 `POST` without `Content-Length`, which nginx sends by default for a `POST` without a body.
    /// The library demands the field (RFC 1945 section 7.2.2); by RFC 9112 section 6.3 the body is empty.
    pub lacks_content_length: bool,
}

/// Framing of a body, from the header section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Length(u64),
    Chunked,
    /// The end of the body is ambiguous, or the method is `CONNECT`, after which no further request follows.
    Unknown,
}

/// Error for bytes that are not an HTTP request: the request line is not HTTP/1.0 or 1.1, a line is not a field, or
/// `Host` is invalid (RFC 9112 section 3.2). The library checks more, but only once the header section is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidRequest;

impl HeaderReader {
    /// Continues to read. `bytes` are all bytes received so far, from the start of the header section; bytes after its
    /// end are ignored.
    pub(super) fn read(
        &mut self,
        bytes: &mut [u8],
    ) -> Result<Option<HeaderSection>, InvalidRequest> {
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
            // For example a TLS handshake, which may never contain a line end.
            Some(first) if !first.is_ascii_graphic() && !first.is_ascii_whitespace() => {
                Err(InvalidRequest)
            }
            _ => Ok(None),
        }
    }

    fn complete(&self, fields_end: usize, end: usize) -> HeaderSection {
        let is_chunked = self.is_chunked && !self.is_http_1_0;
        let body = match self.length {
            _ if self.is_ambiguous || self.is_connect => BodyFraming::Unknown,
            Some(_) if self.is_chunked => BodyFraming::Unknown,
            None if self.is_chunked && self.is_http_1_0 => BodyFraming::Unknown,
            None if is_chunked => BodyFraming::Chunked,
            length => BodyFraming::Length(length.unwrap_or(0)),
        };
        let has_body = body != BodyFraming::Length(0);
        HeaderSection {
            end,
            fields_end,
            body,
            closes: self.closes
                || (self.is_http_1_0 && !self.keeps_alive)
                || body == BodyFraming::Unknown,
            expects_continue: self.expects_continue && !self.is_http_1_0 && has_body,
            lacks_content_length: self.is_http_1_0
                && self.is_post
                && self.length.is_none()
                && body == BodyFraming::Length(0),
        }
    }

    fn read_request_line(&mut self, line: &[u8]) -> Result<(), InvalidRequest> {
        self.has_request_line = true;
        self.is_http_1_0 = line.ends_with(b" HTTP/1.0");
        self.is_post = line.starts_with(b"POST ");
        self.is_connect = line.starts_with(b"CONNECT ");
        if self.is_http_1_0 || line.ends_with(b" HTTP/1.1") {
            Ok(())
        } else {
            Err(InvalidRequest)
        }
    }

    fn read_field(&mut self, line: &mut [u8]) -> Result<(), InvalidRequest> {
        let colon = line.iter().position(|b| *b == b':').ok_or(InvalidRequest)?;
        let (name, value) = line.split_at_mut(colon);
        let value = &mut value[1..];
        let is = |expected: &[u8]| name.eq_ignore_ascii_case(expected);
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
                self.is_ambiguous |= length.is_none() || self.length.is_some();
                self.length = length;
            }
            17 if is(b"transfer-encoding") => {
                self.is_ambiguous |= self.is_chunked || !equal(value.trim_ascii(), b"chunked");
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

fn equal(text: &[u8], expected: &[u8]) -> bool {
    text.eq_ignore_ascii_case(expected)
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// Accepts the characters of a host and a port (RFC 3986 section 3.2), and an empty value.
fn check_host(value: &[u8]) -> Result<(), InvalidRequest> {
    let is_valid = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(b);
    if value.iter().all(is_valid) {
        Ok(())
    } else {
        Err(InvalidRequest)
    }
}

#[cfg(test)]
#[path = "request_head_tests.rs"]
mod tests;
