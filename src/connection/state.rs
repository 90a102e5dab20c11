//! The state of one connection: which request it is at, whose turn it is, and until when.
//!
//! Three parts share it. The connection reports what it has read; the outermost middleware, when the app
//! begins a request and when it has a response; the body's extractor, when it wants the body. The client
//! has a deadline for each header section, and for the wait between requests. The next request is taken only
//! after the response to the one before. After a response to a request of which the body did not arrive
//! whole nobody could say where the next request begins: that response is the last one.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use crate::shutdown::Shutdown;

/// What one connection may take.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub head_bytes: usize,
    /// Of a body; of a chunked one, its extensions and trailers included.
    pub body_bytes: usize,
    pub head_time: Duration,
    pub keep_alive: Duration,
}

/// How long a connection that ends is still listened to. To close it at once would reset it while the client
/// sends, and the client might not see the last response (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_secs(2);

/// How long a client that has connected during a shutdown may take to send its request.
pub const FIRST_REQUEST_WITHIN: Duration = Duration::from_millis(500);

/// One connection's state.
#[derive(Debug)]
pub struct ConnectionState {
    limits: ConnectionLimits,
    stopping: Shutdown,
    opened: Instant,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    turn: Turn,
    /// The client's deadline, if it is its turn.
    deadline: Instant,
    has_asked: bool,
    /// Whether no further request is taken.
    closes: bool,
    request: Request,
    body: BodyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing of the next request is there.
    Idle,
    /// Its header section is coming.
    Head,
    /// Its header section is complete, and the app has not begun it.
    Whole,
    /// The app has it.
    Service,
    /// Nothing is read any more.
    Ended,
}

/// What the header section of a request says about the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    pub has_body: bool,
    /// Whether the client wants no further response.
    pub is_last: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// How far the body of the request is, if it has one.
#[derive(Debug, Clone, Copy, Default)]
struct BodyState {
    is_complete: bool,
    is_wanted: bool,
    fault: Option<BodyFault>,
}

/// Why the rest of a body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It is not chunked as RFC 9112 section 7.1 demands.
    Malformed,
    /// With its chunk extensions and trailers it is larger than a body may be.
    TooLarge,
}

/// What the client has taken too long for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// To send a request.
    Request,
    /// To send the rest of a header section.
    Head,
}

impl ConnectionState {
    pub fn new(limits: ConnectionLimits, stopping: Shutdown, now: Instant) -> Self {
        Self {
            limits,
            stopping,
            opened: now,
            state: RefCell::new(State {
                turn: Turn::Idle,
                deadline: now + limits.head_time,
                has_asked: false,
                closes: false,
                request: Request::default(),
                body: BodyState::default(),
            }),
        }
    }

    pub fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// Notes the first bytes of a request, if these are the first.
    pub fn head_arrives(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        if state.turn == Turn::Idle {
            state.turn = Turn::Head;
            state.deadline = state.deadline.min(now + self.limits.head_time);
        }
    }

    /// Notes that a header section is complete.
    pub fn head_arrived(&self, request: Request) {
        let mut state = self.state.borrow_mut();
        state.turn = Turn::Whole;
        state.closes |= request.is_last;
        state.request = request;
        state.body = BodyState {
            is_complete: !request.has_body,
            ..BodyState::default()
        };
    }

    /// Notes a part of the body, and whether it was the last one.
    pub fn body_arrives(&self, is_complete: bool) {
        let mut state = self.state.borrow_mut();
        state.body.is_complete = is_complete;
        // RFC 9110 section 10.1.1: then it need not be asked for.
        state.request.expects_continue = false;
    }

    /// Notes that the rest of the body will not be read.
    pub fn body_fails(&self, fault: BodyFault) {
        self.state.borrow_mut().body.fault = Some(fault);
    }

    /// Notes that the app has begun the request.
    pub fn begun(&self) {
        let mut state = self.state.borrow_mut();
        state.turn = Turn::Service;
        state.has_asked = true;
    }

    /// Notes that the app reads the body.
    pub fn body_wanted(&self) {
        self.state.borrow_mut().body.is_wanted = true;
    }

    /// Returns why the body could not be read, if the connection stopped to.
    pub fn body_fault(&self) -> Option<BodyFault> {
        self.state.borrow().body.fault
    }

    /// Returns whether a body has arrived whole that the app did not read.
    pub fn has_unread_body(&self) -> bool {
        let state = self.state.borrow();
        state.request.has_body && state.body.is_complete && !state.body.is_wanted
    }

    /// Returns, once for each request, whether the client has to be told to send the body.
    pub fn takes_continue(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let is_due =
            state.turn == Turn::Service && state.request.expects_continue && state.body.is_wanted;
        if is_due {
            state.request.expects_continue = false;
        }
        is_due
    }

    /// Notes that the app has a response. Returns whether it is the last one on this connection.
    pub fn answered(&self, close: bool, now: Instant) -> bool {
        let mut state = self.state.borrow_mut();
        let is_incomplete = !state.body.is_complete;
        let close = close || state.closes || is_incomplete || self.stopping.has_begun();
        state.turn = Turn::Idle;
        state.closes = close;
        state.deadline = now
            + if close {
                LINGER
            } else {
                self.limits.keep_alive
            };
        close
    }

    /// Notes that the client has taken the response, after it had to be waited for.
    pub fn response_taken(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        if state.turn == Turn::Idle && !state.closes {
            state.deadline = now + self.limits.keep_alive;
        }
    }

    /// Returns whether the request before has its response and a further one may come.
    pub fn takes_requests(&self) -> bool {
        let state = self.state.borrow();
        state.turn == Turn::Idle && !state.closes
    }

    /// Returns whether the last response has been given.
    pub fn is_over(&self) -> bool {
        let state = self.state.borrow();
        state.turn == Turn::Idle && state.closes
    }

    /// Returns whether there is a request that the app has not begun. A response to it is the HTTP library's.
    pub fn is_before_the_app(&self) -> bool {
        self.state.borrow().turn == Turn::Whole
    }

    /// Returns whether no further request is taken.
    pub fn closes(&self) -> bool {
        self.state.borrow().closes
    }

    /// Notes that nothing that is read counts any more.
    pub fn end(&self) {
        self.state.borrow_mut().turn = Turn::Ended;
    }

    /// Returns the client's deadline, and whether it has to be met exactly. A complete header section is with
    /// the app in no time, and an exact deadline costs a timer.
    pub fn deadline(&self) -> Option<(Instant, bool)> {
        let state = self.state.borrow();
        match state.turn {
            Turn::Idle | Turn::Head => Some((state.deadline, true)),
            Turn::Whole => Some((state.deadline, false)),
            Turn::Service | Turn::Ended => None,
        }
    }

    /// Returns what the client has taken too long for, if anything.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        let state = self.state.borrow();
        let what = match state.turn {
            Turn::Idle => Overdue::Request,
            Turn::Head | Turn::Whole => Overdue::Head,
            Turn::Service | Turn::Ended => return None,
        };
        (now >= state.deadline).then_some(what)
    }

    /// Returns whether the service shuts down and this connection has nothing to wait for.
    pub fn may_end(&self, now: Instant) -> bool {
        if !self.stopping.closes_idle() {
            return false;
        }
        let mut state = self.state.borrow_mut();
        if state.turn != Turn::Idle {
            return false;
        }
        let first = self.opened + FIRST_REQUEST_WITHIN;
        // Comes back then.
        state.deadline = state.deadline.min(first.max(now));
        state.has_asked || now >= first
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
