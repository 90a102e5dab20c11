//! Client connection with deadlines and limits, between the socket and the HTTP library.
//!
//! It measures the time that the client takes to send requests ([`ConnectionState`]) and to receive responses. It
//! passes one request at a time to the library ([`Inbound`]). A client that misses a deadline gets a 408 response where
//! one is possible, and the connection is closed.

mod inbound;
mod read;
pub(super) mod rejection;
mod request_body;
mod request_head;

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
    net::TcpStream,
    time::{Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use self::{
    inbound::Inbound,
    rejection::{ConnectionResponses, unreadable_reason},
};
use super::admission::ConnectionPermit;
use crate::{
    connection::{
        counters::UnreadableRequest,
        state::{ConnectionState, LINGER, Overdue},
    },
    shutdown::Shutdown,
};

/// Interim response that asks the client to send the body (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Number of bytes of a response that the client must receive within the response timeout.
const RESPONSE_STEP: usize = 32 * 1024;

/// Byte stream of a client: TCP, or TLS over TCP.
pub(super) type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Byte stream between client and HTTP library that enforces deadlines and limits.
pub(super) struct Connection {
    transport: Transport,
    connection_state: Rc<ConnectionState>,
    inbound: Inbound,
    /// Timer that fires at `wakes_at`. That is not after the client's deadline if the deadline needs an exact timer.
    timer: Pin<Box<Sleep>>,
    wakes_at: Instant,
    response_timeout: Duration,
    /// Response timeout and the bytes sent since it started. Set while the client does not receive fast enough.
    stalled_write: Option<(Pin<Box<Sleep>>, usize)>,
    /// Completes when the service closes idle connections. `None` after that.
    idle_closed: Option<Pin<Box<dyn Future<Output = ()>>>>,
    responses: ConnectionResponses,
    /// Unwritten part of a response that the connection sends itself.
    own_response: Bytes,
    /// True if that response replaces the one of the HTTP library.
    replaces_response: bool,
    /// True while a part of a response is unsent. No further request is read until then.
    is_sending: bool,
    /// True after the last response. Data that still arrives is discarded.
    is_lingering: bool,
    /// True if the connection lingers once everything is sent.
    lingers: bool,
    /// True once the sending direction is shut down.
    is_shut_down: bool,
    _permit: ConnectionPermit,
}

impl Connection {
    pub(super) fn new(
        transport: Transport,
        connection_state: ConnectionState,
        response_timeout: Duration,
        shutdown: &Shutdown,
        responses: ConnectionResponses,
        permit: ConnectionPermit,
    ) -> Self {
        let now = Instant::now();
        let wakes_at = connection_state
            .deadline()
            .map_or(now, |(deadline, _)| deadline);
        Self {
            transport,
            inbound: Inbound::new(connection_state.limits()),
            connection_state: Rc::new(connection_state),
            timer: Box::pin(sleep_until(wakes_at.into())),
            wakes_at,
            response_timeout,
            stalled_write: None,
            idle_closed: Some(Box::pin(shutdown.idle_closed())),
            responses,
            own_response: Bytes::new(),
            replaces_response: false,
            is_sending: false,
            is_lingering: false,
            lingers: false,
            is_shut_down: false,
            _permit: permit,
        }
    }

    /// Returns the state that is shared with the requests on this connection.
    pub(super) fn connection_state(&self) -> Rc<ConnectionState> {
        self.connection_state.clone()
    }

    pub(super) fn is_over_tls(&self) -> bool {
        matches!(self.transport, Transport::Right(_))
    }

    /// Waits until the client has missed its current deadline, if it has one, and returns that deadline.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        while let Some((deadline, exact)) = self.connection_state.deadline() {
            if exact && deadline < self.wakes_at {
                self.wake_at(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            if let Some(overdue) = self.connection_state.overdue(Instant::now()) {
                return Poll::Ready(overdue);
            }
            // The timer was set for an earlier phase. Timers have a resolution of one millisecond.
            self.wake_at(deadline.max(Instant::now() + Duration::from_millis(1)));
        }
        Poll::Pending
    }

    fn wake_at(&mut self, at: Instant) {
        self.wakes_at = at;
        self.timer.as_mut().reset(at.into());
    }

    /// Writes the rest of a response that the connection sends itself.
    fn poll_own_response(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own_response.is_empty() {
            match Pin::new(&mut self.transport).poll_write(cx, &self.own_response) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => drop(self.own_response.split_to(count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_stalled_write(cx).map(Err),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Stops reading requests, and discards received data for [`LINGER`].
    fn start_lingering(&mut self) {
        self.is_lingering = true;
        self.connection_state.end();
        self.wake_at(Instant::now() + LINGER);
    }

    /// Writes a response in the documented form, in place of the one that the HTTP library gave by itself.
    fn poll_replace_response(
        &mut self,
        cx: &mut Context<'_>,
        reason: UnreadableRequest,
    ) -> Poll<io::Result<()>> {
        if !self.replaces_response {
            self.replaces_response = true;
            self.own_response = self.responses.to_unreadable_request(reason).into();
        }
        ready!(self.poll_own_response(cx))?;
        self.lingers = true;
        self.connection_state.end();
        Poll::Ready(Ok(()))
    }

    /// Waits until the client has failed to receive the response in time, and returns the error for that.
    fn poll_stalled_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let response_timeout = self.response_timeout;
        let (timer, _) = self
            .stalled_write
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(response_timeout)), 0));
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
        if this.replaces_response || this.connection_state.awaits_app() {
            ready!(this.poll_replace_response(cx, unreadable_reason(bytes)))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(this.poll_own_response(cx))?;
        match Pin::new(&mut this.transport).poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => {
                if let Some((_, sent)) = &mut this.stalled_write {
                    *sent += count;
                    if *sent >= RESPONSE_STEP {
                        this.stalled_write = None;
                    }
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_stalled_write(cx).map(Err),
        }
    }

    /// Flushes. The HTTP library calls it only after it has written everything that it has.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection_state.take_continue() {
            this.own_response = Bytes::from_static(CONTINUE);
        }
        ready!(this.poll_own_response(cx))?;
        match Pin::new(&mut this.transport).poll_flush(cx) {
            Poll::Ready(result) => {
                this.is_sending = false;
                if this.stalled_write.take().is_some() {
                    this.connection_state.response_received(Instant::now());
                }
                // The response is sent. The library reads the next request only if it is woken.
                let has_next = !this.inbound.is_empty() && this.connection_state.accepts_requests();
                if !this.is_lingering && (has_next || this.poll_overdue(cx).is_ready()) {
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_stalled_write(cx).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut_down {
            match Pin::new(&mut this.transport).poll_shutdown(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending => return this.poll_stalled_write(cx).map(Err),
            }
            this.is_shut_down = true;
            if this.lingers || this.connection_state.closes() {
                this.start_lingering();
            } else {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_linger(cx)
    }
}
