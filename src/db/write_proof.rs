//! The evidence that the database takes changes.

use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use parking_lot::{Mutex, MutexGuard};

use super::Aborted;

/// Why the database takes no changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChanges {
    DiskFull,
    ReadOnly,
    Other,
}

impl NoChanges {
    /// The cause that an error tells. `None` for one that says nothing about other changes.
    pub(super) fn of(error: &QueryError) -> Option<Self> {
        if let QueryError::RollbackErrorOnCommit { commit_error, .. } = error {
            return Self::of(commit_error);
        }
        let QueryError::DatabaseError(kind, information) = error else {
            return Some(Self::Other);
        };
        let message = information.message();
        // Diesel passes on no codes: SQLITE_FULL, SQLITE_READONLY, and PostgreSQL's ENOSPC.
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

/// The evidence from the last changes.
#[derive(Debug, Default)]
pub(super) struct WriteProof(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The time when a change was last committed, unless one has failed since.
    committed: Option<Instant>,
    /// Why a change failed, if none was committed since. On a full disk a small change may still find room where
    /// others do not, so there only a probe ends it.
    refused: Option<NoChanges>,
}

impl WriteProof {
    /// Notes how a change ended, and passes it on.
    pub(super) fn note<T>(&self, ended: Result<T, Aborted>) -> Result<T, Aborted> {
        let mut seen = self.seen();
        match &ended {
            Ok(_) if seen.refused == Some(NoChanges::DiskFull) => {}
            Ok(_) => *seen = Seen::good(),
            Err(Aborted::Query(error)) => {
                if let Some(cause) = NoChanges::of(error) {
                    *seen = Seen {
                        committed: None,
                        refused: Some(cause),
                    };
                }
            }
            Err(Aborted::Refused(_)) => {}
        }
        drop(seen);
        ended
    }

    /// Notes that there is room for changes.
    pub(super) fn note_room(&self) {
        *self.seen() = Seen::good();
    }

    /// Returns whether a change was committed this lately.
    pub(super) fn holds(&self, lately: Duration) -> bool {
        let committed = self.seen().committed;
        committed.is_some_and(|at| at.elapsed() < lately)
    }

    pub(super) fn refused(&self) -> Option<NoChanges> {
        self.seen().refused
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock()
    }
}

impl Seen {
    fn good() -> Self {
        Self {
            committed: Some(Instant::now()),
            refused: None,
        }
    }
}
