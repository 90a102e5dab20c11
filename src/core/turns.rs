//! A bounded queue for something scarce: who waits, waits here, where it costs no thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Error;

/// Hands out a fixed number of turns, to those who wait in order.
pub struct Turns {
    what: &'static str,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
}

impl Turns {
    /// `at_once` turns; past `max_waiting` or `max_wait` a request is told 503. `what` is for the log.
    pub fn new(what: &'static str, at_once: usize, max_waiting: usize, max_wait: Duration) -> Self {
        Self {
            what,
            free: Arc::new(Semaphore::new(at_once)),
            waiting: AtomicUsize::new(0),
            max_waiting,
            max_wait,
        }
    }

    /// Waits for a turn, which lasts until the permit is dropped.
    pub async fn take(&self) -> Result<OwnedSemaphorePermit, Error> {
        let _place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting {
            return Err(self.saturated("too many wait for"));
        }
        tokio::time::timeout(self.max_wait, self.free.clone().acquire_owned())
            .await
            .map_err(|_| self.saturated("waited too long for"))?
            .map_err(Error::internal)
    }

    fn saturated(&self, how: &str) -> Error {
        Error::Unavailable(format!("{how} {}", self.what).into())
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
