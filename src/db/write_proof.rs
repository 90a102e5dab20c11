//! Record of recent writes: whether the database accepts them, and the reason if it does not.

use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use parking_lot::{Mutex, MutexGuard};

use super::Aborted;

/// Reason why the database rejects writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFailure {
    DiskFull,
    ReadOnly,
    Other,
}

impl WriteFailure {
    /// Returns the reason behind an error. `None` if the error says nothing about other writes.
    pub(super) fn of(error: &QueryError) -> Option<Self> {
        if let QueryError::RollbackErrorOnCommit { commit_error, .. } = error {
            return Self::of(commit_error);
        }
        let QueryError::DatabaseError(kind, information) = error else {
            return Some(Self::Other);
        };
        let message = information.message();
        // Diesel passes on messages without codes: these are SQLITE_FULL, SQLITE_READONLY and PostgreSQL's ENOSPC.
        match kind {
            DatabaseErrorKind::ReadOnlyTransaction => Some(Self::ReadOnly),
            DatabaseErrorKind::Unknown if message == "database or disk is full" => {
                Some(Self::DiskFull)
            }
            DatabaseErrorKind::Unknown if message.contains("No space left on device") => {
                Some(Self::DiskFull)
            }
            DatabaseErrorKind::Unknown if message == "attempt to write a readonly database" => {
                Some(Self::ReadOnly)
            }
            DatabaseErrorKind::Unknown | DatabaseErrorKind::ClosedConnection => Some(Self::Other),
            _ => None,
        }
    }
}

/// Outcome of the last writes.
#[derive(Debug, Default)]
pub(super) struct WriteProof(Mutex<LastWrites>);

#[derive(Debug, Default)]
struct LastWrites {
    /// Time of the last commit. `None` if a write has failed since.
    committed: Option<Instant>,
    /// Reason of the last failed write. `None` if a write was committed since.
    ///
    /// On a full disk a small write may still fit where others do not. So a commit does not clear
    /// [`WriteFailure::DiskFull`]; only [`WriteProof::record_room`] does.
    failure: Option<WriteFailure>,
}

impl WriteProof {
    /// Records the outcome of a write, and returns it.
    pub(super) fn record<T>(&self, result: Result<T, Aborted>) -> Result<T, Aborted> {
        let mut last = self.last_writes();
        match &result {
            Ok(_) if last.failure == Some(WriteFailure::DiskFull) => {}
            Ok(_) => *last = LastWrites::committed_now(),
            Err(Aborted::Query(error)) => {
                if let Some(cause) = WriteFailure::of(error) {
                    *last = LastWrites {
                        committed: None,
                        failure: Some(cause),
                    };
                }
            }
            Err(Aborted::Rejected(_)) => {}
        }
        drop(last);
        result
    }

    /// Records that the disk has space for writes.
    pub(super) fn record_room(&self) {
        *self.last_writes() = LastWrites::committed_now();
    }

    /// Returns whether a change was committed within `period`, with no failed write since.
    pub(super) fn has_committed_within(&self, period: Duration) -> bool {
        let committed = self.last_writes().committed;
        committed.is_some_and(|at| at.elapsed() < period)
    }

    pub(super) fn failure(&self) -> Option<WriteFailure> {
        self.last_writes().failure
    }

    fn last_writes(&self) -> MutexGuard<'_, LastWrites> {
        self.0.lock()
    }
}

impl LastWrites {
    fn committed_now() -> Self {
        Self {
            committed: Some(Instant::now()),
            failure: None,
        }
    }
}
