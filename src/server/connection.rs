//! A connection with deadlines and limits for its client.
//!
//! It stands between the socket and the HTTP library. It measures how long the client takes to send
//! ([`Conversation`]) and to take what it is sent, and hands the library one request at a time ([`Inbound`]). A
//! client that is too slow gets a response that says so, where one can be given, and the connection ends.

mod read;

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_web::web::Bytes;
use tokio::{
    io::AsyncWrite,
    time::{Sleep, sleep_until},
};

use super::{
    admission::Place,
    inbound::Inbound,
    refusal::{Refusals, why_unreadable},
    transport::Transport,
};
use crate::core::{
    connections::Unreadable,
    conversation::{Conversation, LINGER, Overdue},
    stopping::Stopping,
};

/// Tells the client to send the body (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What of an answer must be taken within the time for it.
const ANSWER_STEP: usize = 32 * 1024;

pub(super) struct Connection {
    transport: Transport,
    conversation: Rc<Conversation>,
    inbound: Inbound,
    /// Runs until [`Self::wakes_at`], which is not after the client's deadline where that has to be exact.
    timer: Pin<Box<Sleep>>,
    wakes_at: Instant,
    answer_time: Duration,
    /// Runs while the client does not take what it is sent.
    unread: Option<(Pin<Box<Sleep>>, usize)>,
    /// Wakes the connection when the service closes those that are idle.
    idle_closed: Option<Pin<Box<dyn Future<Output = ()>>>>,
    refusals: Refusals,
    /// What is left to write of a response that the app did not give.
    own: Bytes,
    /// Whether that takes the place of the response that the HTTP library gives.
    refuses: bool,
    /// Whether a part of a response is not sent. Until it is, nothing is read of a further request.
    is_sending: bool,
    /// Whether it has had its last response; what still comes is thrown away.
    is_cut: bool,
    /// Whether what still comes is thrown away once all is sent.
    lingers: bool,
    is_shut: bool,
    _place: Place,
}

impl Connection {
    pub(super) fn new(
        transport: Transport,
        conversation: Conversation,
        answer_time: Duration,
        stopping: &Stopping,
        refusals: Refusals,
        place: Place,
    ) -> Self {
        let now = Instant::now();
        let wakes_at = conversation
            .deadline()
            .map_or(now, |(deadline, _)| deadline);
        Self {
            transport,
            inbound: Inbound::new(conversation.limits()),
            conversation: Rc::new(conversation),
            timer: Box::pin(sleep_until(wakes_at.into())),
            wakes_at,
            answer_time,
            unread: None,
            idle_closed: Some(Box::pin(stopping.idle_closed())),
            refusals,
            own: Bytes::new(),
            refuses: false,
            is_sending: false,
            is_cut: false,
            lingers: false,
            is_shut: false,
            _place: place,
        }
    }

    /// What the requests on it talk to.
    pub(super) fn conversation(&self) -> Rc<Conversation> {
        self.conversation.clone()
    }

    pub(super) fn is_over_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Waits for the client's deadline, if it is its turn, and says what is overdue then.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        while let Some((deadline, exact)) = self.conversation.deadline() {
            if exact && deadline < self.wakes_at {
                self.wake_at(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            if let Some(overdue) = self.conversation.overdue(Instant::now()) {
                return Poll::Ready(overdue);
            }
            // Set for a turn that is over. A millisecond is what timers can tell apart.
            self.wake_at(deadline.max(Instant::now() + Duration::from_millis(1)));
        }
        Poll::Pending
    }

    fn wake_at(&mut self, at: Instant) {
        self.wakes_at = at;
        self.timer.as_mut().reset(at.into());
    }

    /// Writes what is left of a response that the app did not give.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            match Pin::new(&mut self.transport).poll_write(cx, &self.own) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => drop(self.own.split_to(count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_unread(cx).map(Err),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) {
        self.is_cut = true;
        self.conversation.end();
        self.wake_at(Instant::now() + LINGER);
    }

    /// Writes the contract's form of a response that the HTTP library gave by itself.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, why: Unreadable) -> Poll<io::Result<()>> {
        if !self.refuses {
            self.refuses = true;
            self.own = self.refusals.of_request(why).into();
        }
        ready!(self.poll_own(cx))?;
        self.lingers = true;
        self.conversation.end();
        Poll::Ready(Ok(()))
    }

    /// The client does not take what it is sent.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let answer_time = self.answer_time;
        let (timer, _) = self
            .unread
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(answer_time)), 0));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_sending = true;
        if this.refuses || this.conversation.is_before_the_app() {
            ready!(this.poll_refuse(cx, why_unreadable(bytes)))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(this.poll_own(cx))?;
        match Pin::new(&mut this.transport).poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => {
                if let Some((_, taken)) = &mut this.unread {
                    *taken += count;
                    if *taken >= ANSWER_STEP {
                        this.unread = None;
                    }
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(failed) => Poll::Ready(failed),
            Poll::Pending => this.poll_unread(cx).map(Err),
        }
    }

    /// Only called with all written that there is to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conversation.takes_continue() {
            this.own = Bytes::from_static(CONTINUE);
        }
        ready!(this.poll_own(cx))?;
        match Pin::new(&mut this.transport).poll_flush(cx) {
            Poll::Ready(flushed) => {
                this.is_sending = false;
                if this.unread.take().is_some() {
                    this.conversation.response_taken(Instant::now());
                }
                // The response has gone out. The library reads only if it is woken.
                let has_next = !this.inbound.is_empty() && this.conversation.takes_requests();
                if !this.is_cut && (has_next || this.poll_overdue(cx).is_ready()) {
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(flushed)
            }
            Poll::Pending => this.poll_unread(cx).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            match Pin::new(&mut this.transport).poll_shutdown(cx) {
                Poll::Ready(shut) => shut?,
                Poll::Pending => return this.poll_unread(cx).map(Err),
            }
            this.is_shut = true;
            if this.lingers || this.conversation.closes() {
                this.end();
            } else {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_discard(cx)
    }
}
