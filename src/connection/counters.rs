//! Counters of connections, and of requests that are rejected before the app sees them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Marker in the data of a connection on which the service itself serves TLS.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// Reason why a connection is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRejection {
    /// The service has the maximum number of connections.
    Service,
    /// The client's address has the maximum number of connections.
    Client,
}

/// Reason why the connection itself sends a response, after which it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableRequest {
    /// The request is not valid HTTP.
    Malformed,
    /// The header section did not arrive in time.
    Slow,
    /// The header section is too large.
    Large,
}

/// Counters of all client connections.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    open: AtomicUsize,
    rejections: [AtomicU64; 2],
    unreadable: [AtomicU64; 3],
}

impl ConnectionCounters {
    /// Counts a new connection. Returns the number of open connections before it.
    pub fn opened(&self) -> usize {
        self.open.fetch_add(1, Ordering::Relaxed)
    }

    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn refused(&self, reason: ConnectionRejection) {
        self.rejections[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn answered(&self, reason: UnreadableRequest) {
        self.unreadable[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns the number of rejected connections, by reason.
    pub fn rejections(&self) -> [(&'static str, u64); 2] {
        let count =
            |reason: ConnectionRejection| self.rejections[reason as usize].load(Ordering::Relaxed);
        [
            ("service", count(ConnectionRejection::Service)),
            ("client", count(ConnectionRejection::Client)),
        ]
    }

    /// Returns the number of unreadable requests, by the status of the response.
    pub fn unreadable_requests(&self) -> [(&'static str, u64); 3] {
        let count =
            |reason: UnreadableRequest| self.unreadable[reason as usize].load(Ordering::Relaxed);
        [
            ("400", count(UnreadableRequest::Malformed)),
            ("408", count(UnreadableRequest::Slow)),
            ("431", count(UnreadableRequest::Large)),
        ]
    }
}
