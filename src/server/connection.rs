//! A connection that does not let its client take for ever.
//!
//! It stands between the socket and the HTTP library, and measures both directions: what the client
//! sends, by [`Conversation`], and how it takes what it is sent. Whoever is too slow is told so where
//! that can be said, and sees the connection end.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::{
    admission::Place,
    refusal::{Refusals, bare_answer},
    transport::Transport,
};
use crate::core::{
    connections::Unreadable,
    conversation::{Conversation, LINGER, Overdue},
    stopping::Stopping,
};

/// What of an answer must be taken within the time for it.
const ANSWER_STEP: usize = 32 * 1024;

pub(super) struct Connection {
    transport: Transport,
    conversation: Rc<Conversation>,
    /// Runs until [`Self::wakes_at`], which is not after the client's deadline where that has to be exact.
    timer: Pin<Box<Sleep>>,
    wakes_at: Instant,
    answer_time: Duration,
    /// Runs while the client does not take what it is sent.
    unread: Option<(Pin<Box<Sleep>>, usize)>,
    /// Wakes the connection when the service closes those that are idle.
    idle_closed: Option<Pin<Box<dyn Future<Output = ()>>>>,
    refusals: Refusals,
    /// What is left to write of an answer that the app did not give.
    refusal: Option<Vec<u8>>,
    /// Whether something was to be written since all that was written went out. The HTTP library reads
    /// only before it answers and after it has written all that it can; and an answer's body is there
    /// as a whole. So at each read it says whether an answer is under way.
    is_sending: bool,
    /// Whether it has had its last answer; what still comes is thrown away.
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
            conversation: Rc::new(conversation),
            timer: Box::pin(sleep_until(wakes_at.into())),
            wakes_at,
            answer_time,
            unread: None,
            idle_closed: Some(Box::pin(stopping.idle_closed())),
            refusals,
            refusal: None,
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

    /// Gives the last answer, and stops to listen. In the middle of another answer it cannot be given:
    /// then the connection ends after that one.
    fn poll_cut(&mut self, cx: &mut Context<'_>, why: Unreadable) -> Poll<io::Result<()>> {
        if self.is_sending {
            self.lingers = true;
            return self.end_of_input();
        }
        let answer = self.refusals.of_request(why);
        // There is nothing else to send, so it fits; if not, the client does not take anything.
        if let Poll::Ready(Ok(_)) = Pin::new(&mut self.transport).poll_write(cx, &answer) {
            let _ = Pin::new(&mut self.transport).poll_flush(cx);
        }
        self.end();
        self.poll_discard(cx)
    }

    fn end(&mut self) {
        self.is_cut = true;
        self.conversation.end();
        self.wake_at(Instant::now() + LINGER);
    }

    /// Nothing more is read, and nothing had to be said.
    fn end_of_input(&self) -> Poll<io::Result<()>> {
        self.conversation.end();
        Poll::Ready(Ok(()))
    }

    /// Throws away what comes, for a while: to close at once would reset the connection, and the
    /// client might not see its answer.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.transport).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return self.timer.as_mut().poll(cx).map(Ok),
            }
            if Instant::now() >= self.wakes_at {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes the contract's form of an answer that the HTTP library gave.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, why: Unreadable) -> Poll<io::Result<()>> {
        let mut left = match self.refusal.take() {
            Some(left) => left,
            None => self.refusals.of_request(why),
        };
        while !left.is_empty() {
            match Pin::new(&mut self.transport).poll_write(cx, &left) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => drop(left.drain(..count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.refusal = Some(left);
                    return self.poll_unread(cx).map(Err);
                }
            }
        }
        self.refusal = Some(left);
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

/// An empty read is the end, whoever decides on it.
impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_cut {
            return this.poll_discard(cx);
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.transport).poll_read(cx, buffer) {
            let bytes = &buffer.filled()[before..];
            if read.is_err() || bytes.is_empty() {
                return Poll::Ready(read);
            }
            let now = Instant::now();
            let too_large = this.conversation.received(bytes, now).is_err();
            // Whoever sends without a pause never has to be waited for.
            let overdue = this.conversation.overdue(now);
            if !too_large && overdue.is_none() {
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(before);
            return match overdue {
                Some(Overdue::Request) => this.end_of_input(),
                Some(Overdue::Head) => this.poll_cut(cx, Unreadable::Slow),
                None => this.poll_cut(cx, Unreadable::Large),
            };
        }
        if let Some(told) = &mut this.idle_closed
            && told.as_mut().poll(cx).is_ready()
        {
            this.idle_closed = None;
        }
        if this.idle_closed.is_none() && this.conversation.may_end(Instant::now()) {
            return this.end_of_input();
        }
        match ready!(this.poll_overdue(cx)) {
            Overdue::Request => this.end_of_input(),
            Overdue::Head => this.poll_cut(cx, Unreadable::Slow),
        }
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
        let bytes = match bare_answer(bytes) {
            Some((0, why)) => {
                ready!(this.poll_refuse(cx, why))?;
                return Poll::Ready(Ok(bytes.len()));
            }
            // What stands before it goes out first.
            Some((at, _)) => &bytes[..at],
            None => bytes,
        };
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
        match Pin::new(&mut this.transport).poll_flush(cx) {
            Poll::Ready(flushed) => {
                this.unread = None;
                this.is_sending = false;
                // An answer has gone out, after which nobody may read for a while.
                if !this.is_cut && this.poll_overdue(cx).is_ready() {
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
