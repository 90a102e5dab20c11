//! Whose turn it is on a connection, and how long that may take.
//!
//! The HTTP library measures the time of the first head on a connection and of no other, and has one
//! fixed limit on its size. So the connection counts what it reads, and the outermost wrapper around the
//! app says when a request begins and when it is answered. What lies in between is bounded: a head by
//! its size and time, and the wait for it by the keep-alive time. After an answer to a request whose body
//! was not read to its end nobody could say where the next head begins: that answer is the last, and the
//! rest of the body is listened to for a moment.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use super::stopping::Stopping;

/// What one connection may take.
#[derive(Debug, Clone, Copy)]
pub struct TurnLimits {
    pub head_bytes: usize,
    pub head_time: Duration,
    pub keep_alive: Duration,
}

/// How long a connection that ends is still listened to, lest what the client is sending resets it
/// before the last answer was read.
pub const LINGER: Duration = Duration::from_secs(2);

/// Whoever has connected while the service stops gets this long to ask.
pub const FIRST_REQUEST_WITHIN: Duration = Duration::from_millis(500);

/// One connection's state.
#[derive(Debug)]
pub struct Conversation {
    limits: TurnLimits,
    stopping: Stopping,
    opened: Instant,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    turn: Turn,
    /// Until when it is the client's turn.
    deadline: Instant,
    has_asked: bool,
    /// Whether the answer was the last.
    closes: bool,
    /// Bytes of the head so far.
    head: usize,
    line: Line,
    /// Bytes that came after the head, before the request began.
    after_head: u64,
    /// Whether something came that belongs to a request behind the one that the app has or had last: all
    /// of that, or a part of its head.
    is_ahead: bool,
    /// What of the body has not been read yet. `None` if it does not say.
    body_left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing of the next request is there.
    Idle,
    /// Its head is coming.
    Head,
    /// It is there, and the app has not seen it yet.
    Whole,
    /// The app has it.
    Service,
    /// Nothing is read any more.
    Ended,
}

/// Where in a line of the head it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Before the first: the HTTP library skips empty ones.
    Before,
    Within,
    /// After a line's end: another one ends the head.
    Start,
}

/// The head is larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadTooLarge;

/// What has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// There is no request.
    Request,
    /// There is a part of its head.
    Head,
}

impl Conversation {
    pub fn new(limits: TurnLimits, stopping: Stopping, now: Instant) -> Self {
        Self {
            limits,
            stopping,
            opened: now,
            state: RefCell::new(State {
                turn: Turn::Idle,
                deadline: now + limits.head_time,
                has_asked: false,
                closes: false,
                head: 0,
                line: Line::Before,
                after_head: 0,
                is_ahead: false,
                body_left: Some(0),
            }),
        }
    }

    /// The connection has read this.
    pub fn received(&self, bytes: &[u8], now: Instant) -> Result<(), HeadTooLarge> {
        let mut state = self.state.borrow_mut();
        match state.turn {
            Turn::Idle => {
                state.turn = Turn::Head;
                state.deadline = state.deadline.min(now + self.limits.head_time);
                (state.head, state.line, state.after_head) = (0, Line::Before, 0);
                state.is_ahead = false;
            }
            Turn::Head => {}
            Turn::Whole => {
                state.after_head += bytes.len() as u64;
                return Ok(());
            }
            Turn::Service => {
                if let Some(left) = state.body_left {
                    state.is_ahead |= bytes.len() as u64 > left;
                    state.body_left = Some(left.saturating_sub(bytes.len() as u64));
                }
                return Ok(());
            }
            Turn::Ended => return Ok(()),
        }
        // It is the rest of a body, perhaps, and nobody reads it.
        if state.closes {
            return Ok(());
        }
        let end = bytes.iter().position(|byte| {
            let (line, ended) = match (state.line, byte) {
                (Line::Before, b'\r' | b'\n') => (Line::Before, false),
                (Line::Start, b'\n') => (Line::Start, true),
                (Line::Start, b'\r') => (Line::Start, false),
                (_, b'\n') => (Line::Start, false),
                _ => (Line::Within, false),
            };
            state.line = line;
            ended
        });
        if let Some(end) = end {
            state.turn = Turn::Whole;
            state.after_head = (bytes.len() - end - 1) as u64;
        }
        state.head += end.map_or(bytes.len(), |end| end + 1);
        match state.head > self.limits.head_bytes {
            true => Err(HeadTooLarge),
            false => Ok(()),
        }
    }

    /// The app has a request, with a body of so many bytes; `None` if it does not say.
    pub fn begun(&self, body: Option<u64>) {
        let mut state = self.state.borrow_mut();
        match state.turn {
            Turn::Whole => state.is_ahead = body.is_some_and(|length| state.after_head > length),
            // It waited behind another one, and what came since is of the next.
            Turn::Head => state.is_ahead = true,
            Turn::Idle | Turn::Service | Turn::Ended => {}
        }
        state.turn = Turn::Service;
        state.has_asked = true;
        state.body_left = body.map(|length| length.saturating_sub(state.after_head));
        state.after_head = 0;
    }

    /// It has read the body to its end.
    pub fn body_read(&self) {
        self.state.borrow_mut().body_left = Some(0);
    }

    /// It has answered. Says whether this is the last answer on this connection.
    pub fn answered(&self, close: bool, now: Instant) -> bool {
        let mut state = self.state.borrow_mut();
        let is_read = state.body_left == Some(0);
        let close = close || state.closes || !is_read || self.stopping.has_begun();
        state.turn = Turn::Idle;
        state.closes = close;
        state.deadline = now
            + match (close, state.is_ahead) {
                (true, _) => LINGER,
                // A part of a head may be there, of which nobody saw the beginning.
                (false, true) => self.limits.head_time.min(self.limits.keep_alive),
                (false, false) => self.limits.keep_alive,
            };
        close
    }

    /// Whether the client has been told that there are no more answers.
    pub fn closes(&self) -> bool {
        self.state.borrow().closes
    }

    /// Nothing that is read counts any more.
    pub fn end(&self) {
        self.state.borrow_mut().turn = Turn::Ended;
    }

    /// Until when it is the client's turn, and whether that has to be exact: a head that is there is
    /// with the app in no time, and it costs a timer each.
    pub fn deadline(&self) -> Option<(Instant, bool)> {
        let state = self.state.borrow();
        match state.turn {
            Turn::Idle | Turn::Head => Some((state.deadline, true)),
            Turn::Whole => Some((state.deadline, false)),
            Turn::Service | Turn::Ended => None,
        }
    }

    /// What has taken too long, if anything has.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        let state = self.state.borrow();
        let what = match state.turn {
            Turn::Idle => Overdue::Request,
            // To that there was an answer.
            Turn::Head if state.closes => Overdue::Request,
            Turn::Head | Turn::Whole => Overdue::Head,
            Turn::Service | Turn::Ended => return None,
        };
        (now >= state.deadline).then_some(what)
    }

    /// Whether the service stops and there is nothing on this connection to wait for.
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
#[path = "conversation_tests.rs"]
mod tests;
