//! A bounded usage for something scarce: who waits, waits here, where it costs no thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::error::Error;

/// Hands out a fixed number of turns, to those who wait in order.
pub struct WaitQueue {
    resource: &'static str,
    free: Arc<Semaphore>,
    at_once: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
    rejected: AtomicU64,
}

/// How it stands with the turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitQueueUse {
    /// WaitQueue that are taken.
    pub running: usize,
    pub waiting: usize,
    /// Those who were told 503 so far, since the usage was full or their time was up.
    pub rejected: u64,
}

impl WaitQueue {
    /// `at_once` turns, for which at most `max_waiting` wait. `resource` is for the log.
    pub fn new(resource: &'static str, at_once: usize, max_waiting: usize) -> Self {
        Self {
            resource,
            free: Arc::new(Semaphore::new(at_once)),
            at_once,
            waiting: AtomicUsize::new(0),
            max_waiting,
            rejected: AtomicU64::new(0),
        }
    }

    /// How it stands.
    pub fn usage(&self) -> WaitQueueUse {
        WaitQueueUse {
            running: self.at_once.saturating_sub(self.free.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// Waits for a turn, which lasts until the permit is dropped. Whoever would wait past the deadline,
    /// or in a usage that is full, is told 503.
    pub async fn take(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Error> {
        let _place = WaitingGuard(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting {
            return Err(self.saturated("too many wait for"));
        }
        tokio::time::timeout_at(deadline.into(), self.free.clone().acquire_owned())
            .await
            .map_err(|_| self.saturated("waited too long for"))?
            .map_err(Error::internal)
    }

    fn saturated(&self, how: &str) -> Error {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Error::Unavailable(format!("{how} {}", self.resource).into())
    }
}

/// A place in the usage, given back when dropped.
struct WaitingGuard<'a>(&'a AtomicUsize);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
