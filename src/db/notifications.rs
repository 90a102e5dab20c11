//! PostgreSQL's notifications, as they come.
//!
//! Diesel's connection has them only for whoever asks again and again: it does not show its socket to
//! wait on. So this is a connection of its own, on libpq, that listens and does nothing else.

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
    postgres::{self, Patience, Watch},
};
use crate::core::postgres_url::PostgresUrl;

/// What was told, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notification {
    pub channel: String,
    pub payload: String,
}

/// A connection that listens.
pub(crate) struct Notifications {
    connection: Connection,
    /// The connection's socket under a number of its own: libpq closes its own one when it is lost.
    socket: AsyncFd<OwnedFd>,
    /// Holds the tag of the socket, which is another connection's afterwards.
    _watch: Arc<Watch>,
}

impl Notifications {
    /// Connects, and listens to these channels.
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
            let patience = Patience::of_requests(timeout);
            postgres::connect(&url, patience, |uri, _| {
                let mut connection = Connection::open(uri)?;
                connection.execute(&listen)?;
                Ok(connection)
            })
        });
        let lost = |error: &dyn ToString| ConnectError::Postgres(error.to_string());
        let (connection, watch) = connected.await.map_err(|error| lost(&error))??;
        let socket = connection.socket().map_err(|error| lost(&error))?;
        // SAFETY: the file is open until it is dropped, and always the same.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self {
            connection,
            socket: socket.map_err(|error| lost(&error))?,
            _watch: watch,
        })
    }

    /// Waits for the next one. After an error the connection is of no use any more. May be given up
    /// while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Notification, ConnectError> {
        loop {
            if let Some(notification) = self.connection.next_read() {
                return Ok(notification);
            }
            let lost = |error: io::Error| ConnectError::Postgres(error.to_string());
            let mut ready = self.socket.readable().await.map_err(lost)?;
            // Only what arrives after this makes it ready again. So all that is there is taken in.
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

/// A connection of libpq's. It is never null.
struct Connection(NonNull<PGconn>);

// SAFETY: libpq lets one thread after the other use a connection, not several at once. What is behind
// the pointer belongs to this alone, and it is not `Sync`.
unsafe impl Send for Connection {}

impl Connection {
    fn open(uri: &SecretString) -> Result<Self, ConnectError> {
        let uri = CString::new(uri.expose_secret()).map_err(|_| ConnectError::Url)?;
        // SAFETY: the text ends with a NUL and outlives the call.
        let connection = NonNull::new(unsafe { PQconnectdb(uri.as_ptr()) });
        let connection =
            Self(connection.ok_or_else(|| ConnectError::Postgres("out of memory".to_owned()))?);
        // SAFETY: the connection is one of libpq's that is not finished.
        match unsafe { PQstatus(connection.0.as_ptr()) } {
            ConnStatusType::CONNECTION_OK => Ok(connection),
            _ => Err(ConnectError::postgres(&connection.message())),
        }
    }

    fn execute(&mut self, statement: &str) -> Result<(), ConnectError> {
        let statement = CString::new(statement).map_err(|_| ConnectError::Url)?;
        // SAFETY: the connection is not finished, the text ends with a NUL and outlives the call. The
        // result is null or one that nobody else clears; `PQresultStatus` and `PQclear` take null.
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

    /// Takes in what has arrived, without waiting for more.
    fn read(&mut self) -> Result<(), ConnectError> {
        // SAFETY: the connection is not finished.
        match unsafe { PQconsumeInput(self.0.as_ptr()) } {
            1 => Ok(()),
            _ => Err(self.lost()),
        }
    }

    /// The next notification of those that were taken in.
    fn next_read(&mut self) -> Option<Notification> {
        // SAFETY: the connection is not finished. What comes back is null, or a notification that is
        // ours to free, with two texts that end with a NUL and last as long as it does.
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

    /// A copy of the number of its socket.
    fn socket(&self) -> io::Result<OwnedFd> {
        // SAFETY: the connection is not finished.
        let socket = unsafe { PQsocket(self.0.as_ptr()) };
        if socket < 0 {
            return Err(io::Error::other("the connection has no socket"));
        }
        // SAFETY: it is open: nothing is done with the connection in the meantime.
        unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned()
    }

    fn message(&self) -> String {
        // SAFETY: the connection is not finished. The text ends with a NUL, is never null, and is
        // copied before anything else is done with the connection.
        let message = unsafe { CStr::from_ptr(PQerrorMessage(self.0.as_ptr())) };
        message.to_string_lossy().into_owned()
    }

    /// Of a connection that there was: the message has nothing of the URL.
    fn lost(&self) -> ConnectError {
        ConnectError::Postgres(self.message().trim().replace('\n', " "))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: nobody else has the connection, or can after this.
        unsafe { PQfinish(self.0.as_ptr()) }
    }
}
