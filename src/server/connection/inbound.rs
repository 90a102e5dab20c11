//! Buffer of received bytes that passes one request at a time to the HTTP library.
//!
//! On its own, the library would:
//!
//! - read as many pipelined requests as fit into its buffers,
//! - execute requests after one that the client declared to be the last,
//! - keep all responses in memory that the client does not receive.
//!
//! Therefore it sees the next request only after the response to the previous one is sent. In the usual case, a
//! complete request with nothing after it, the bytes stay in the library's buffer and nothing is copied.

use std::mem;

use tokio::io::ReadBuf;

use super::{
    request_body::BodyReader,
    request_head::{BodyFraming, HeaderReader, HeaderSection, InvalidRequest},
};
use crate::connection::state::{ConnectionLimits, ConnectionState, Request};

/// Header field that the library demands in an HTTP/1.0 `POST` without a body.
const EMPTY_BODY_FIELD: &[u8] = b"content-length: 0\r\n";

/// Received bytes that are held back, and the position in the current request.
#[derive(Debug)]
pub(super) struct Inbound {
    limits: ConnectionLimits,
    stage: Stage,
    /// Held bytes, from index `held_from` on. On an idle connection it is empty and has no allocation.
    held: Vec<u8>,
    held_from: usize,
    /// Number of held bytes that may be passed to the library.
    released: usize,
}

#[derive(Debug)]
enum Stage {
    /// In a header section.
    Headers(HeaderReader),
    Body(BodyReader),
    /// After a request. The next byte belongs to the next request.
    BetweenRequests,
    /// After the header section of a request whose body is not read.
    BodyWithheld,
    /// After the readable part of a body.
    BodyFailed,
}

/// Reason why the rest of a request is not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    HeadersTooLarge,
}

/// Number of bytes that may be passed to the library.
struct Release {
    count: usize,
    /// Index at which [`EMPTY_BODY_FIELD`] has to be inserted.
    insert_at: Option<usize>,
}

impl Inbound {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            stage: Stage::BetweenRequests,
            held: Vec::new(),
            held_from: 0,
            released: 0,
        }
    }

    /// Returns whether no bytes are held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns whether held bytes may be passed to the library.
    pub(super) fn has_released(&self) -> bool {
        self.released > 0
    }

    /// Returns whether the next byte belongs to the next request.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.stage, Stage::BetweenRequests)
    }

    /// Returns whether the body of the current request is not read.
    pub(super) fn is_body_withheld(&self) -> bool {
        matches!(self.stage, Stage::BodyWithheld)
    }

    /// Returns whether the rest of the body cannot be read.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::BodyFailed)
    }

    /// Starts the next request.
    pub(super) fn begin(&mut self) {
        self.stage = Stage::Headers(HeaderReader::default());
    }

    /// Moves the bytes of `buffer` after the first `before` ones to the held bytes.
    pub(super) fn hold(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        // Removes bytes that were passed on. Otherwise a client that always sends half a request ahead would make this
        // buffer grow without limit.
        self.held.drain(..self.held_from);
        self.held_from = 0;
        self.held.extend_from_slice(&buffer.filled()[before..]);
        buffer.set_filled(before);
    }

    /// Takes in the bytes of `buffer` after the first `before` ones. Bytes that the library may see stay in `buffer`,
    /// and the others are held.
    pub(super) fn accept(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        before: usize,
        connection_state: &ConnectionState,
    ) -> Result<(), Fault> {
        if !self.is_empty() {
            self.hold(buffer, before);
            return self.release_held(buffer, connection_state);
        }
        let bytes = &mut buffer.filled_mut()[before..];
        let release = self.parse(bytes, connection_state)?;
        if release.insert_at.is_some() {
            self.hold(buffer, before);
            self.release(release);
            self.move_released(buffer);
        } else if release.count < bytes.len() {
            self.held.extend_from_slice(&bytes[release.count..]);
            buffer.set_filled(before + release.count);
        }
        Ok(())
    }

    /// Parses the held bytes, if none are released, and moves the released ones into `buffer`.
    pub(super) fn release_held(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        connection_state: &ConnectionState,
    ) -> Result<(), Fault> {
        if self.released == 0 && !self.is_empty() {
            let mut held = mem::take(&mut self.held);
            let release = self.parse(&mut held[self.held_from..], connection_state);
            self.held = held;
            self.release(release?);
        }
        self.move_released(buffer);
        Ok(())
    }

    fn release(&mut self, release: Release) {
        self.released = release.count;
        if let Some(at) = release.insert_at {
            let at = self.held_from + at;
            self.held.splice(at..at, EMPTY_BODY_FIELD.iter().copied());
            self.released += EMPTY_BODY_FIELD.len();
        }
    }

    fn move_released(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.released.min(buffer.remaining());
        buffer.put_slice(&self.held[self.held_from..self.held_from + count]);
        self.released -= count;
        self.held_from += count;
        if self.held_from == self.held.len() {
            (self.held, self.held_from) = (Vec::new(), 0);
        }
    }

    /// Parses the next bytes of the current request, and reports progress to the connection state.
    fn parse(
        &mut self,
        bytes: &mut [u8],
        connection_state: &ConnectionState,
    ) -> Result<Release, Fault> {
        let Stage::Headers(reader) = &mut self.stage else {
            let count = self.parse_body(bytes, connection_state);
            return Ok(Release {
                count,
                insert_at: None,
            });
        };
        let section = reader
            .read(bytes)
            .map_err(|InvalidRequest| Fault::Malformed)?;
        let length = section.as_ref().map_or(bytes.len(), |section| section.end);
        if length > self.limits.head_bytes {
            return Err(Fault::HeadersTooLarge);
        }
        let Some(section) = section else {
            return Ok(Release {
                count: 0,
                insert_at: None,
            });
        };
        connection_state.header_section_completed(Request {
            has_body: section.body != BodyFraming::Length(0),
            is_last: section.closes,
            expects_continue: section.expects_continue,
        });
        self.stage = self.stage_after(&section);
        let body_count = self.parse_body(&bytes[section.end..], connection_state);
        Ok(Release {
            count: section.end + body_count,
            insert_at: section.lacks_content_length.then_some(section.fields_end),
        })
    }

    fn stage_after(&self, section: &HeaderSection) -> Stage {
        let limit = self.limits.body_bytes as u64;
        match section.body {
            BodyFraming::Length(0) => Stage::BetweenRequests,
            BodyFraming::Length(length) if length <= limit => {
                Stage::Body(BodyReader::Length(length))
            }
            BodyFraming::Chunked => Stage::Body(BodyReader::chunked(limit)),
            // The header section alone suffices to reject such a request.
            BodyFraming::Length(_) | BodyFraming::Unknown => Stage::BodyWithheld,
        }
    }

    fn parse_body(&mut self, bytes: &[u8], connection_state: &ConnectionState) -> usize {
        let Stage::Body(body) = &mut self.stage else {
            return 0;
        };
        if bytes.is_empty() {
            return 0;
        }
        let count = match body.read(bytes) {
            Ok(count) => count,
            Err(fault) => {
                // The app still gets the header section, and responds to it.
                connection_state.body_failed(fault);
                self.stage = Stage::BodyFailed;
                return 0;
            }
        };
        let is_complete = body.is_complete();
        connection_state.body_received(is_complete);
        if is_complete {
            self.stage = Stage::BetweenRequests;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::shutdown::Shutdown;

    #[test]
    fn client_that_always_sends_half_a_request_ahead_occupies_a_bounded_buffer() {
        let limits = ConnectionLimits {
            head_bytes: 1024,
            body_bytes: 1024,
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
        };
        let now = Instant::now();
        let connection_state = ConnectionState::new(limits, Shutdown::default(), now);
        let mut inbound = Inbound::new(limits);
        let request = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";
        let (first, second) = request.split_at(request.len() / 2);
        let mut sent = first.to_vec();
        for round in 0..1000 {
            inbound.begin();
            connection_state.header_section_started(now);
            // The rest of a request, and the first half of the next one.
            sent.extend_from_slice(second);
            sent.extend_from_slice(first);
            let mut space = [0; 4096];
            let mut buffer = ReadBuf::new(&mut space);
            buffer.put_slice(&sent);
            inbound
                .accept(&mut buffer, 0, &connection_state)
                .expect("a request");
            assert_eq!(buffer.filled(), request, "{round}");
            assert!(inbound.held.len() <= 2 * request.len(), "{round}");
            sent.clear();
            connection_state.app_started();
            assert!(!connection_state.responded(false, now));
        }
    }
}
