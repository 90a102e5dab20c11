//! Reading direction of a connection: passes requests to the HTTP library, and enforces deadlines.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};

use super::{Connection, inbound::Fault};
use crate::connection::{counters::UnreadableRequest, state::Overdue};

/// Reason why a read passes no further bytes to the library.
enum ReadError {
    Io(io::Error),
    Fault(Fault),
    Overdue,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl AsyncRead for Connection {
    /// Passes the next part of the current request to the library. An empty read tells the library that no further
    /// request follows, whether the client or the service decided so.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_lingering {
            return this.poll_linger(cx);
        }
        let before = buffer.filled().len();
        match this.poll_request(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(ReadError::Io(error))) => Poll::Ready(Err(error)),
            Poll::Ready(Err(ReadError::Fault(fault))) => {
                // The bytes just read are discarded.
                buffer.set_filled(before);
                match fault {
                    Fault::Malformed => this.poll_close_with(cx, UnreadableRequest::Malformed),
                    Fault::HeadersTooLarge => this.poll_close_with(cx, UnreadableRequest::Large),
                }
            }
            Poll::Ready(Err(ReadError::Overdue)) => this.poll_close_overdue(cx),
            Poll::Pending => {
                if let Some(idle_closed) = &mut this.idle_closed
                    && idle_closed.as_mut().poll(cx).is_ready()
                {
                    this.idle_closed = None;
                }
                if this.is_sending && !this.connection_state.is_finished() {
                    return Poll::Pending;
                }
                if this.idle_closed.is_none()
                    && this.inbound.is_empty()
                    && this.connection_state.may_close(Instant::now())
                {
                    return this.end_of_input();
                }
                ready!(this.poll_overdue(cx));
                this.poll_close_overdue(cx)
            }
        }
    }
}

impl Connection {
    /// Continues to read the current request, or the next one once the response to the previous one is sent.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let before = buffer.filled().len();
        if self.inbound.has_released() {
            self.inbound.release_held(buffer, &self.connection_state)?;
            return Poll::Ready(Ok(()));
        }
        if self.inbound.has_failed() {
            return Poll::Ready(Ok(()));
        }
        if self.connection_state.is_finished() {
            // Data that still arrives belongs to no request that will get a response.
            return self.poll_discard(cx).map(Ok);
        }
        if self.inbound.is_between_requests()
            && !self.is_sending
            && self.connection_state.accepts_requests()
        {
            self.inbound.begin();
        }
        if self.inbound.is_between_requests() || self.inbound.is_body_withheld() {
            // At most one read is made ahead. It also detects that the client has disconnected.
            if self.inbound.is_empty() && !self.inbound.is_body_withheld() {
                ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
                if buffer.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
                self.inbound.hold(buffer, before);
            }
            return Poll::Pending;
        }
        if !self.inbound.is_empty() {
            self.connection_state.header_section_started(Instant::now());
            self.inbound.release_held(buffer, &self.connection_state)?;
        }
        while buffer.filled().len() == before && !self.inbound.has_failed() {
            ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            self.connection_state.header_section_started(now);
            self.inbound
                .accept(buffer, before, &self.connection_state)?;
            // A client that sends without a pause never makes the read pending, so the deadline is checked here too.
            if buffer.filled().len() == before && self.connection_state.overdue(now).is_some() {
                return Poll::Ready(Err(ReadError::Overdue));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the connection after a missed deadline, with a response if a part of a request has arrived.
    fn poll_close_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.connection_state.overdue(Instant::now()) {
            Some(Overdue::Head) => self.poll_close_with(cx, UnreadableRequest::Slow),
            Some(Overdue::Request) | None => self.end_of_input(),
        }
    }

    /// Sends the last response in place of the app, and stops reading requests. No other response is being sent: until
    /// a response is sent, no further request is read.
    fn poll_close_with(
        &mut self,
        cx: &mut Context<'_>,
        reason: UnreadableRequest,
    ) -> Poll<io::Result<()>> {
        let response = self.responses.to_unreadable_request(reason);
        // Nothing else is unsent, so the response fits into the socket's buffer, unless the client reads nothing at
        // all.
        if let Poll::Ready(Ok(_)) = Pin::new(&mut self.transport).poll_write(cx, &response) {
            let _ = Pin::new(&mut self.transport).poll_flush(cx);
        }
        self.start_lingering();
        self.poll_linger(cx)
    }

    /// Ends the input without a response.
    fn end_of_input(&self) -> Poll<io::Result<()>> {
        self.connection_state.end();
        Poll::Ready(Ok(()))
    }

    /// Discards received data until the linger time is over. Closing at once would reset the connection, and the client
    /// might not see its response.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_discard(cx).is_ready() || Instant::now() >= self.wakes_at {
            return Poll::Ready(Ok(()));
        }
        self.timer.as_mut().poll(cx).map(Ok)
    }

    /// Discards received data until the client closes its direction or the connection fails.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        /// Maximum number of reads per call, so that other tasks get to run.
        const MAX_READS: usize = 16;
        let mut scratch = [0; 4096];
        for _ in 0..MAX_READS {
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
