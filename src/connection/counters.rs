//! What requests know of their connection; what is counted of connections, and of what they answer where the app never sees a request.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Lies with a connection on which the service speaks TLS.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRejection {
    /// For nobody.
    Service,
    /// For this client address.
    Client,
}

/// Why a connection answers by itself, which is the last that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableRequest {
    /// It is not HTTP.
    Malformed,
    /// The head does not come to its end.
    Slow,
    /// The head is too large.
    Large,
}

/// Of all of them.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    open: AtomicUsize,
    refused: [AtomicU64; 2],
    unreadable: [AtomicU64; 3],
}

impl ConnectionCounters {
    /// One more is there. Says how many there were.
    pub fn opened(&self) -> usize {
        self.open.fetch_add(1, Ordering::Relaxed)
    }

    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn refused(&self, why: ConnectionRejection) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn answered(&self, why: UnreadableRequest) {
        self.unreadable[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many there was no place for, by why.
    pub fn refusals(&self) -> [(&'static str, u64); 2] {
        let of = |why: ConnectionRejection| self.refused[why as usize].load(Ordering::Relaxed);
        [
            ("service", of(ConnectionRejection::Service)),
            ("client", of(ConnectionRejection::Client)),
        ]
    }

    /// How many gave an answer by themselves, by its status.
    pub fn own_answers(&self) -> [(&'static str, u64); 3] {
        let of = |why: UnreadableRequest| self.unreadable[why as usize].load(Ordering::Relaxed);
        [
            ("400", of(UnreadableRequest::Malformed)),
            ("408", of(UnreadableRequest::Slow)),
            ("431", of(UnreadableRequest::Large)),
        ]
    }
}
