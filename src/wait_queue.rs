//! Bounded wait queue in front of a scarce resource. Tasks wait here, so that no thread is blocked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::error::Error;

/// Semaphore with a bounded number of waiters, served in order of arrival.
pub struct WaitQueue {
    resource: &'static str,
    semaphore: Arc<Semaphore>,
    permits: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
    rejected: AtomicU64,
}

/// Usage of a [`WaitQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitQueueUsage {
    /// Number of permits in use.
    pub running: usize,
    /// Number of tasks that wait for a permit.
    pub waiting: usize,
    /// Number of tasks rejected so far, because the queue was full or their deadline had passed.
    pub rejected: u64,
}

impl WaitQueue {
    /// Creates a queue of at most `max_waiting` tasks for `permits` permits. Errors name the `resource`.
    pub fn new(resource: &'static str, permits: usize, max_waiting: usize) -> Self {
        Self {
            resource,
            semaphore: Arc::new(Semaphore::new(permits)),
            permits,
            waiting: AtomicUsize::new(0),
            max_waiting,
            rejected: AtomicU64::new(0),
        }
    }

    /// Returns the current usage.
    pub fn usage(&self) -> WaitQueueUsage {
        WaitQueueUsage {
            running: self
                .permits
                .saturating_sub(self.semaphore.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// Waits for a permit, which is released when dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] (503) if the queue is full, at once, or if no permit is free by the deadline.
    pub async fn take(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Error> {
        let _waiting = WaitingGuard(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting {
            return Err(self.saturated("too many requests wait for"));
        }
        tokio::time::timeout_at(deadline.into(), self.semaphore.clone().acquire_owned())
            .await
            .map_err(|_| self.saturated("timed out waiting for"))?
            .map_err(Error::internal)
    }

    fn saturated(&self, problem: &str) -> Error {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Error::Unavailable(format!("{problem} {}", self.resource).into())
    }
}

/// Counts a task as waiting until dropped.
struct WaitingGuard<'a>(&'a AtomicUsize);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
