//! What a connection has read and not handed over: the HTTP library gets one request at a time.
//!
//! The library would take in as many pipelined requests as fit into its buffers, carry them out although
//! the client has said that one of them is the last, and keep all responses that the client does not
//! take. So it sees the next request only when the response to the one before is sent. In the usual
//! case, a whole request and nothing behind it, the bytes stay where they were read and nothing is copied.

use std::mem;

use tokio::io::ReadBuf;

use super::{
    request_body::BodyReader,
    request_head::{Announced, Head, HeadReader, NoRequest},
};
use crate::core::conversation::{Conversation, Request, TurnLimits};

/// What a `POST` of HTTP/1.0 without a body has to say for the library.
const EMPTY_BODY: &[u8] = b"content-length: 0\r\n";

/// What has been read, and where in a request that ends.
#[derive(Debug)]
pub(super) struct Inbound {
    limits: TurnLimits,
    stage: Stage,
    /// Read and not handed over, from `held_from` on. Empty, without memory, on an idle connection.
    held: Vec<u8>,
    held_from: usize,
    /// How many of them are to be handed over.
    cleared: usize,
}

#[derive(Debug)]
enum Stage {
    /// At a header section.
    Head(HeadReader),
    Body(BodyReader),
    /// Behind a request; what comes is of the next one.
    Between,
    /// Behind the header section of a request of which the body is not read.
    Withheld,
    /// Behind the part of a body that could be read.
    Failed,
}

/// Why the request is not read any further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoRequest,
    HeadTooLarge,
}

/// How many bytes may be handed over, and what has to be put in before the end of the header section.
struct Cleared {
    count: usize,
    insert_at: Option<usize>,
}

impl Inbound {
    pub(super) fn new(limits: TurnLimits) -> Self {
        Self {
            limits,
            stage: Stage::Between,
            held: Vec::new(),
            held_from: 0,
            cleared: 0,
        }
    }

    /// Returns whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns whether something is kept that may be handed over.
    pub(super) fn has_cleared(&self) -> bool {
        self.cleared > 0
    }

    /// Returns whether the next byte belongs to a further request.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.stage, Stage::Between)
    }

    /// Returns whether the rest of the request is not read.
    pub(super) fn is_withheld(&self) -> bool {
        matches!(self.stage, Stage::Withheld)
    }

    /// Returns whether the rest of the body cannot be read.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::Failed)
    }

    /// Begins the next request.
    pub(super) fn begin(&mut self) {
        self.stage = Stage::Head(HeadReader::default());
    }

    /// Keeps what was read into `buffer` behind its first `before` bytes.
    pub(super) fn keep(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        // What was handed over is of no use: a client that always has half a request under way would make
        // this longer and longer.
        self.held.drain(..self.held_from);
        self.held_from = 0;
        self.held.extend_from_slice(&buffer.filled()[before..]);
        buffer.set_filled(before);
    }

    /// Sorts what was read into `buffer` behind its first `before` bytes: what the library may have stays there.
    pub(super) fn sort(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        before: usize,
        conversation: &Conversation,
    ) -> Result<(), Fault> {
        if !self.is_empty() {
            self.keep(buffer, before);
            return self.hand_over(buffer, conversation);
        }
        let bytes = &mut buffer.filled_mut()[before..];
        let cleared = self.examine(bytes, conversation)?;
        if cleared.insert_at.is_some() {
            self.keep(buffer, before);
            self.clear(cleared);
            self.take_out(buffer);
        } else if cleared.count < bytes.len() {
            self.held.extend_from_slice(&bytes[cleared.count..]);
            buffer.set_filled(before + cleared.count);
        }
        Ok(())
    }

    /// Puts into `buffer` what is kept and may be handed over.
    pub(super) fn hand_over(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        conversation: &Conversation,
    ) -> Result<(), Fault> {
        if self.cleared == 0 && !self.is_empty() {
            let mut held = mem::take(&mut self.held);
            let cleared = self.examine(&mut held[self.held_from..], conversation);
            self.held = held;
            self.clear(cleared?);
        }
        self.take_out(buffer);
        Ok(())
    }

    fn clear(&mut self, cleared: Cleared) {
        self.cleared = cleared.count;
        if let Some(at) = cleared.insert_at {
            let at = self.held_from + at;
            self.held.splice(at..at, EMPTY_BODY.iter().copied());
            self.cleared += EMPTY_BODY.len();
        }
    }

    fn take_out(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.cleared.min(buffer.remaining());
        buffer.put_slice(&self.held[self.held_from..self.held_from + count]);
        self.cleared -= count;
        self.held_from += count;
        if self.held_from == self.held.len() {
            (self.held, self.held_from) = (Vec::new(), 0);
        }
    }

    /// Reads on in the request.
    fn examine(&mut self, bytes: &mut [u8], conversation: &Conversation) -> Result<Cleared, Fault> {
        let Stage::Head(reader) = &mut self.stage else {
            let count = self.examine_body(bytes, conversation);
            return Ok(Cleared {
                count,
                insert_at: None,
            });
        };
        let head = reader.read(bytes).map_err(|NoRequest| Fault::NoRequest)?;
        let length = head.as_ref().map_or(bytes.len(), |head| head.end);
        if length > self.limits.head_bytes {
            return Err(Fault::HeadTooLarge);
        }
        let Some(head) = head else {
            return Ok(Cleared {
                count: 0,
                insert_at: None,
            });
        };
        conversation.head_arrived(Request {
            has_body: head.body != Announced::Length(0),
            is_last: head.is_last,
            expects_continue: head.expects_continue,
        });
        self.stage = self.stage_behind(&head);
        let of_the_body = self.examine_body(&bytes[head.end..], conversation);
        Ok(Cleared {
            count: head.end + of_the_body,
            insert_at: head.lacks_length.then_some(head.fields_end),
        })
    }

    fn stage_behind(&self, head: &Head) -> Stage {
        let limit = self.limits.body_bytes as u64;
        match head.body {
            Announced::Length(0) => Stage::Between,
            Announced::Length(length) if length <= limit => Stage::Body(BodyReader::Length(length)),
            Announced::Chunked => Stage::Body(BodyReader::chunked(limit)),
            // It is rejected by what it says of itself.
            Announced::Length(_) | Announced::Uncertain => Stage::Withheld,
        }
    }

    fn examine_body(&mut self, bytes: &[u8], conversation: &Conversation) -> usize {
        let Stage::Body(body) = &mut self.stage else {
            return 0;
        };
        if bytes.is_empty() {
            return 0;
        }
        let count = match body.read(bytes) {
            Ok(count) => count,
            Err(fault) => {
                // The header section may still be to hand over, and is for the app to respond to.
                conversation.body_fails(fault);
                self.stage = Stage::Failed;
                return 0;
            }
        };
        let is_complete = body.is_complete();
        conversation.body_arrives(is_complete);
        if is_complete {
            self.stage = Stage::Between;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::core::stopping::Stopping;

    #[test]
    fn client_that_always_has_half_a_request_under_way_is_held_no_more_than_a_request() {
        let limits = TurnLimits {
            head_bytes: 1024,
            body_bytes: 1024,
            head_time: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
        };
        let now = Instant::now();
        let conversation = Conversation::new(limits, Stopping::default(), now);
        let mut inbound = Inbound::new(limits);
        let request = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";
        let (first, second) = request.split_at(request.len() / 2);
        let mut sent = first.to_vec();
        for round in 0..1000 {
            inbound.begin();
            conversation.head_arrives(now);
            // The rest of a request, and the first half of the next one.
            sent.extend_from_slice(second);
            sent.extend_from_slice(first);
            let mut memory = [0; 4096];
            let mut buffer = ReadBuf::new(&mut memory);
            buffer.put_slice(&sent);
            inbound
                .sort(&mut buffer, 0, &conversation)
                .expect("a request");
            assert_eq!(buffer.filled(), request, "{round}");
            assert!(inbound.held.len() <= 2 * request.len(), "{round}");
            sent.clear();
            conversation.begun();
            assert!(!conversation.answered(false, now));
        }
    }
}
