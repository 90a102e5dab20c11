//! State of one connection: its current request, the phase of that request, and the client's deadline.
//!
//! Three parts share it:
//!
//! - The connection reports what it has read.
//! - The outermost middleware reports when the app starts a request, and when it has a response.
//! - The extractor of the body reports when the app wants the body.
//!
//! The client has a deadline for each header section, and for the wait between requests. The next request is accepted
//! only after the response to the previous one. If the body of a request did not arrive completely, the start of the
//! next request is unknown: the response to it is the last one on the connection.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use crate::shutdown::Shutdown;

/// Limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Maximum size of a header section, in bytes.
    pub head_bytes: usize,
    /// Maximum size of a body, in bytes, including chunk extensions and trailers.
    pub body_bytes: usize,
    /// Time to receive a header section.
    pub header_timeout: Duration,
    /// Time that the connection may stay idle between requests.
    pub keep_alive: Duration,
}

/// Time for which a closing connection is still read. Closing it at once would reset it while the client sends, and
/// the client might not see the last response (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_secs(2);

/// Time to send the first request for a client that connected during a shutdown.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// State of one connection.
#[derive(Debug)]
pub struct ConnectionState {
    limits: ConnectionLimits,
    shutdown: Shutdown,
    opened: Instant,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Deadline of the client. It holds in all phases except `Service` and `Ended`.
    deadline: Instant,
    /// True once the app has started a request on this connection.
    has_requested: bool,
    /// True if no further request is accepted.
    closes: bool,
    request: Request,
    body: BodyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte of the next request has arrived.
    Idle,
    /// The header section is arriving.
    ReadingHeaders,
    /// The header section is complete, and the app has not started the request.
    HeadersComplete,
    /// The app handles the request.
    Service,
    /// Nothing is read any more.
    Ended,
}

/// Properties of a request that affect the connection, from its header section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    pub has_body: bool,
    /// True if the client asked to close the connection after the response.
    pub is_last: bool,
    /// True if the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Progress of the request's body, if it has one.
#[derive(Debug, Clone, Copy, Default)]
struct BodyState {
    is_complete: bool,
    is_requested: bool,
    fault: Option<BodyFault>,
}

/// Reason why the rest of a body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// The chunks do not follow RFC 9112 section 7.1.
    Malformed,
    /// The body, including chunk extensions and trailers, is larger than [`ConnectionLimits::body_bytes`].
    TooLarge,
}

/// Deadline that the client has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The deadline to start a request.
    Request,
    /// The deadline to complete a header section.
    Head,
}

impl ConnectionState {
    pub fn new(limits: ConnectionLimits, shutdown: Shutdown, now: Instant) -> Self {
        Self {
            limits,
            shutdown,
            opened: now,
            inner: RefCell::new(Inner {
                phase: Phase::Idle,
                deadline: now + limits.header_timeout,
                has_requested: false,
                closes: false,
                request: Request::default(),
                body: BodyState::default(),
            }),
        }
    }

    pub fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// Records bytes of a header section. The first ones start its deadline.
    pub fn header_section_started(&self, now: Instant) {
        let mut state = self.inner.borrow_mut();
        if state.phase == Phase::Idle {
            state.phase = Phase::ReadingHeaders;
            state.deadline = state.deadline.min(now + self.limits.header_timeout);
        }
    }

    /// Records that a header section is complete.
    pub fn header_section_completed(&self, request: Request) {
        let mut state = self.inner.borrow_mut();
        state.phase = Phase::HeadersComplete;
        state.closes |= request.is_last;
        state.request = request;
        state.body = BodyState {
            is_complete: !request.has_body,
            ..BodyState::default()
        };
    }

    /// Records that a part of the body has arrived, and whether it was the last one.
    pub fn body_received(&self, is_complete: bool) {
        let mut state = self.inner.borrow_mut();
        state.body.is_complete = is_complete;
        // RFC 9110 section 10.1.1: `100 Continue` may be omitted then.
        state.request.expects_continue = false;
    }

    /// Records that the rest of the body will not be read.
    pub fn body_failed(&self, fault: BodyFault) {
        self.inner.borrow_mut().body.fault = Some(fault);
    }

    /// Records that the app has started the request.
    pub fn app_started(&self) {
        let mut state = self.inner.borrow_mut();
        state.phase = Phase::Service;
        state.has_requested = true;
    }

    /// Records that the app reads the body.
    pub fn body_requested(&self) {
        self.inner.borrow_mut().body.is_requested = true;
    }

    /// Returns the reason why the connection stopped reading the body, if it did.
    pub fn body_fault(&self) -> Option<BodyFault> {
        self.inner.borrow().body.fault
    }

    /// Returns whether a body has arrived completely that the app did not read.
    pub fn has_unread_body(&self) -> bool {
        let state = self.inner.borrow();
        state.request.has_body && state.body.is_complete && !state.body.is_requested
    }

    /// Returns whether `100 Continue` has to be sent. Returns true at most once per request.
    pub fn take_continue(&self) -> bool {
        let mut state = self.inner.borrow_mut();
        let is_due = state.phase == Phase::Service
            && state.request.expects_continue
            && state.body.is_requested;
        if is_due {
            state.request.expects_continue = false;
        }
        is_due
    }

    /// Records that the app has a response. Returns whether it is the last one on this connection.
    pub fn responded(&self, close: bool, now: Instant) -> bool {
        let mut state = self.inner.borrow_mut();
        let is_incomplete = !state.body.is_complete;
        let close = close || state.closes || is_incomplete || self.shutdown.has_begun();
        state.phase = Phase::Idle;
        state.closes = close;
        state.deadline = now
            + if close {
                LINGER
            } else {
                self.limits.keep_alive
            };
        close
    }

    /// Records that the client has received the response, after the connection had to wait for it.
    pub fn response_received(&self, now: Instant) {
        let mut state = self.inner.borrow_mut();
        if state.phase == Phase::Idle && !state.closes {
            state.deadline = now + self.limits.keep_alive;
        }
    }

    /// Returns whether the previous request has its response and a further request is accepted.
    pub fn accepts_requests(&self) -> bool {
        let state = self.inner.borrow();
        state.phase == Phase::Idle && !state.closes
    }

    /// Returns whether the app has given the last response.
    pub fn is_finished(&self) -> bool {
        let state = self.inner.borrow();
        state.phase == Phase::Idle && state.closes
    }

    /// Returns whether there is a request that the app has not started. A response to it comes from the HTTP library.
    pub fn awaits_app(&self) -> bool {
        self.inner.borrow().phase == Phase::HeadersComplete
    }

    /// Returns whether no further request is accepted.
    pub fn closes(&self) -> bool {
        self.inner.borrow().closes
    }

    /// Records that nothing is read any more.
    pub fn end(&self) {
        self.inner.borrow_mut().phase = Phase::Ended;
    }

    /// Returns the client's deadline, and whether it needs an exact timer.
    ///
    /// A complete header section reaches the app almost at once, so the cost of a timer is saved there.
    pub fn deadline(&self) -> Option<(Instant, bool)> {
        let state = self.inner.borrow();
        match state.phase {
            Phase::Idle | Phase::ReadingHeaders => Some((state.deadline, true)),
            Phase::HeadersComplete => Some((state.deadline, false)),
            Phase::Service | Phase::Ended => None,
        }
    }

    /// Returns the deadline that the client has missed, if any.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        let state = self.inner.borrow();
        let overdue = match state.phase {
            Phase::Idle => Overdue::Request,
            Phase::ReadingHeaders | Phase::HeadersComplete => Overdue::Head,
            Phase::Service | Phase::Ended => return None,
        };
        (now >= state.deadline).then_some(overdue)
    }

    /// Returns whether the service shuts down and this idle connection may close.
    pub fn may_close(&self, now: Instant) -> bool {
        if !self.shutdown.closes_idle() {
            return false;
        }
        let mut state = self.inner.borrow_mut();
        if state.phase != Phase::Idle {
            return false;
        }
        let first_deadline = self.opened + FIRST_REQUEST_TIMEOUT;
        // The connection asks again at that time.
        state.deadline = state.deadline.min(first_deadline.max(now));
        state.has_requested || now >= first_deadline
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
