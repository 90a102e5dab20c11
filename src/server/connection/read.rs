//! The way in: what the HTTP library reads from a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};

use super::Connection;
use crate::{
    connection::{counters::UnreadableRequest, state::Overdue},
    server::connection::inbound::Fault,
};

/// Why there is nothing more to hand over.
enum NotRead {
    Io(io::Error),
    Fault(Fault),
    Overdue,
}

impl From<io::Error> for NotRead {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Fault> for NotRead {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl AsyncRead for Connection {
    /// Hands over the next part of the request that the connection is at. An empty read is the end of all
    /// requests, whoever decides on it.
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
        match this.poll_request(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(NotRead::Io(error))) => Poll::Ready(Err(error)),
            Poll::Ready(Err(NotRead::Fault(fault))) => {
                // What was read is of no use.
                buffer.set_filled(before);
                match fault {
                    Fault::NoRequest => this.poll_cut(cx, UnreadableRequest::Malformed),
                    Fault::HeadTooLarge => this.poll_cut(cx, UnreadableRequest::Large),
                }
            }
            Poll::Ready(Err(NotRead::Overdue)) => this.poll_out_of_time(cx),
            Poll::Pending => {
                if let Some(told) = &mut this.idle_closed
                    && told.as_mut().poll(cx).is_ready()
                {
                    this.idle_closed = None;
                }
                if this.is_sending && !this.connection_state.is_over() {
                    return Poll::Pending;
                }
                if this.idle_closed.is_none()
                    && this.inbound.is_empty()
                    && this.connection_state.may_end(Instant::now())
                {
                    return this.end_of_input();
                }
                ready!(this.poll_overdue(cx));
                this.poll_out_of_time(cx)
            }
        }
    }
}

impl Connection {
    /// Reads on in the request, if the response to the one before is sent.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), NotRead>> {
        let before = buffer.filled().len();
        if self.inbound.has_cleared() {
            self.inbound.hand_over(buffer, &self.connection_state)?;
            return Poll::Ready(Ok(()));
        }
        if self.inbound.has_failed() {
            return Poll::Ready(Ok(()));
        }
        if self.connection_state.is_over() {
            // What still comes belongs to no request that will be answered.
            return self.poll_throw_away(cx).map(Ok);
        }
        if self.inbound.is_between() && !self.is_sending && self.connection_state.takes_requests() {
            self.inbound.begin();
        }
        if self.inbound.is_between() || self.inbound.is_withheld() {
            // At most one piece is read ahead, which also shows whether the client is still there.
            if self.inbound.is_empty() && !self.inbound.is_withheld() {
                ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
                if buffer.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
                self.inbound.keep(buffer, before);
            }
            return Poll::Pending;
        }
        if !self.inbound.is_empty() {
            self.connection_state.head_arrives(Instant::now());
            self.inbound.hand_over(buffer, &self.connection_state)?;
        }
        while buffer.filled().len() == before && !self.inbound.has_failed() {
            ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            self.connection_state.head_arrives(now);
            self.inbound.sort(buffer, before, &self.connection_state)?;
            // Whoever sends without a pause never has to be waited for.
            if buffer.filled().len() == before && self.connection_state.overdue(now).is_some() {
                return Poll::Ready(Err(NotRead::Overdue));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the connection, with a response if a part of a request is there.
    fn poll_out_of_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.connection_state.overdue(Instant::now()) {
            Some(Overdue::Head) => self.poll_cut(cx, UnreadableRequest::Slow),
            Some(Overdue::Request) | None => self.end_of_input(),
        }
    }

    /// Gives the last response, in place of the app, and stops to listen. No other is under way: while one
    /// is, nothing is read of a further request.
    fn poll_cut(&mut self, cx: &mut Context<'_>, why: UnreadableRequest) -> Poll<io::Result<()>> {
        let answer = self.rejections.of_request(why);
        // There is nothing else to send, so it fits; if not, the client does not take anything.
        if let Poll::Ready(Ok(_)) = Pin::new(&mut self.transport).poll_write(cx, &answer) {
            let _ = Pin::new(&mut self.transport).poll_flush(cx);
        }
        self.end();
        self.poll_discard(cx)
    }

    /// Nothing more is read, and nothing had to be said.
    fn end_of_input(&self) -> Poll<io::Result<()>> {
        self.connection_state.end();
        Poll::Ready(Ok(()))
    }

    /// Throws away what comes, for a while: to close at once would reset the connection, and the
    /// client might not see its response.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_throw_away(cx).is_ready() || Instant::now() >= self.wakes_at {
            return Poll::Ready(Ok(()));
        }
        self.timer.as_mut().poll(cx).map(Ok)
    }

    /// Throws away what comes, until the client sends no more.
    fn poll_throw_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        /// Of one turn; others wait for theirs.
        const MOST: usize = 16;
        let mut scratch = [0; 4096];
        for _ in 0..MOST {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
