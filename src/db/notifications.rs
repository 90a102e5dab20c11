//! Receives PostgreSQL notifications (`LISTEN`) as they arrive.
//!
//! Diesel does not expose the socket of its connection, so its notifications can only be polled. This module uses
//! libpq directly, on a separate connection that only listens.

#![expect(unsafe_code, reason = "libpq is a C library")]

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::Arc,
    time::Duration,
};

use pq_sys::{
    ConnStatusType, ExecStatusType, PGconn, PQclear, PQconnectdb, PQconsumeInput, PQerrorMessage,
    PQexec, PQfinish, PQfreemem, PQnotifies, PQresultStatus, PQsocket, PQstatus,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    ConnectError,
    postgres::{self, WaitLimit, Watch},
};
use crate::config::postgres_url::PostgresUrl;

/// Notification with its channel and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notification {
    pub channel: String,
    pub payload: String,
}

/// Connection that listens for notifications.
pub(crate) struct Notifications {
    connection: Connection,
    /// Duplicate of the connection's socket. libpq closes its own descriptor when the connection is lost.
    socket: AsyncFd<OwnedFd>,
    /// Reserves the tag of the socket, which another connection may use after this is dropped.
    _watch: Arc<Watch>,
}

impl Notifications {
    /// Connects and listens on these channels.
    pub(crate) async fn listen(
        url: &PostgresUrl,
        timeout: Duration,
        channels: &[&str],
    ) -> Result<Self, ConnectError> {
        let url = url.clone();
        let listen: String = channels
            .iter()
            .map(|name| format!("LISTEN {name};"))
            .collect();
        let connected = tokio::task::spawn_blocking(move || {
            let wait_limit = WaitLimit::of_requests(timeout);
            postgres::connect(&url, wait_limit, |uri, _| {
                let mut connection = Connection::open(uri)?;
                connection.execute(&listen)?;
                Ok(connection)
            })
        });
        let lost = |error: &dyn ToString| ConnectError::Postgres(error.to_string());
        let (connection, watch) = connected.await.map_err(|error| lost(&error))??;
        let socket = connection.socket().map_err(|error| lost(&error))?;
        // SAFETY: the descriptor stays open, and refers to the same socket, until it is dropped.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self {
            connection,
            socket: socket.map_err(|error| lost(&error))?,
            _watch: watch,
        })
    }

    /// Waits for the next notification. After an error the connection is unusable.
    ///
    /// Cancel safe: dropping the future loses no notification.
    pub(crate) async fn next(&mut self) -> Result<Notification, ConnectError> {
        loop {
            if let Some(notification) = self.connection.next_buffered() {
                return Ok(notification);
            }
            let lost = |error: io::Error| ConnectError::Postgres(error.to_string());
            let mut ready = self.socket.readable().await.map_err(lost)?;
            // Only data that arrives after this makes the socket ready again. So the loop reads all that is there.
            ready.clear_ready();
            while is_readable(self.socket.get_ref()).map_err(lost)? {
                self.connection.read()?;
            }
        }
    }
}

fn is_readable(socket: &OwnedFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    Ok(poll(&mut polled, Some(&Timespec::default()))? > 0)
}

/// Connection of libpq. The pointer is never null.
struct Connection(NonNull<PGconn>);

// SAFETY: libpq allows different threads to use a connection, one at a time. This value alone owns the connection
// behind the pointer, and it is not `Sync`.
unsafe impl Send for Connection {}

impl Connection {
    fn open(uri: &SecretString) -> Result<Self, ConnectError> {
        let uri = CString::new(uri.expose_secret()).map_err(|_| ConnectError::Url)?;
        // SAFETY: the string ends with a NUL and outlives the call.
        let connection = NonNull::new(unsafe { PQconnectdb(uri.as_ptr()) });
        let connection =
            Self(connection.ok_or_else(|| ConnectError::Postgres("out of memory".to_owned()))?);
        // SAFETY: the connection comes from libpq and is not finished.
        match unsafe { PQstatus(connection.0.as_ptr()) } {
            ConnStatusType::CONNECTION_OK => Ok(connection),
            _ => Err(ConnectError::postgres(&connection.message())),
        }
    }

    fn execute(&mut self, statement: &str) -> Result<(), ConnectError> {
        let statement = CString::new(statement).map_err(|_| ConnectError::Url)?;
        // SAFETY: the connection is not finished, the string ends with a NUL and outlives the call. The
        // result is null or is cleared only here; `PQresultStatus` and `PQclear` take null.
        let status = unsafe {
            let result = PQexec(self.0.as_ptr(), statement.as_ptr());
            let status = PQresultStatus(result);
            PQclear(result);
            status
        };
        match status {
            ExecStatusType::PGRES_COMMAND_OK => Ok(()),
            _ => Err(self.lost()),
        }
    }

    /// Reads the data that has arrived, without waiting for more.
    fn read(&mut self) -> Result<(), ConnectError> {
        // SAFETY: the connection is not finished.
        match unsafe { PQconsumeInput(self.0.as_ptr()) } {
            1 => Ok(()),
            _ => Err(self.lost()),
        }
    }

    /// Returns the next notification that has been read.
    fn next_buffered(&mut self) -> Option<Notification> {
        // SAFETY: the connection is not finished. The result is null or a notification that the caller frees. Its
        // two strings end with a NUL and live as long as the notification.
        unsafe {
            let read = NonNull::new(PQnotifies(self.0.as_ptr()))?;
            let text = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
            let notification = Notification {
                channel: text(read.as_ref().relname),
                payload: text(read.as_ref().extra),
            };
            PQfreemem(read.as_ptr().cast());
            Some(notification)
        }
    }

    /// Duplicates the descriptor of the connection's socket.
    fn socket(&self) -> io::Result<OwnedFd> {
        // SAFETY: the connection is not finished.
        let socket = unsafe { PQsocket(self.0.as_ptr()) };
        if socket < 0 {
            return Err(io::Error::other("the connection has no socket"));
        }
        // SAFETY: the socket is open: nothing uses the connection in between.
        unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned()
    }

    fn message(&self) -> String {
        // SAFETY: the connection is not finished. The string ends with a NUL, is never null, and is
        // copied before the connection is used again.
        let message = unsafe { CStr::from_ptr(PQerrorMessage(self.0.as_ptr())) };
        message.to_string_lossy().into_owned()
    }

    /// Returns the error of a connection that was established. Its message shows no part of the URL.
    fn lost(&self) -> ConnectError {
        ConnectError::Postgres(self.message().trim().replace('\n', " "))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: this value alone owns the connection, and it is not used after this.
        unsafe { PQfinish(self.0.as_ptr()) }
    }
}
