//! Revoking changes, which succeed on a full disk, and the probe that finds out whether writes succeed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diesel::QueryResult;

use super::{Aborted, Conn, Db, WriteFailure, pool::recording_outcome};
use crate::domain::error::Error;

/// Maximum age of the last response at which a database without free connections counts as busy, not unreachable.
const BUSY_IF_RESPONDED_WITHIN: Duration = Duration::from_secs(1);

impl Db {
    /// Makes revoking changes in one transaction: see [`Db::as_revoking_writer`].
    pub async fn write_revocation<T: Send + 'static>(
        &self,
        changes: impl Fn(&mut Conn) -> Result<T, Aborted> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        self.as_revoking_writer(move |conn| conn.write(&changes))
            .await
    }

    /// Runs a revoking change on a connection with permission to write, as [`Db::with_writer`] does.
    ///
    /// A revoking change takes access away: it revokes or disables a key, deactivates an account or ends sessions.
    /// If the disk of the embedded database is full, part of its disk space reserve is freed and the change is made
    /// again. The write permit is held in between, so that no other writer uses the freed space.
    pub async fn as_revoking_writer<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Conn) -> Result<T, Aborted> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let deadlines = self.deadlines();
        let work = Arc::new(work);
        let write = async {
            let writer = self.writer(deadlines).await?;
            let (first_work, has_freed) = (work.clone(), Arc::new(AtomicBool::new(false)));
            let (embedded, set_freed) = (self.shared.embedded.clone(), has_freed.clone());
            let first_attempt = move |conn: &mut Conn| {
                let result = first_work(conn);
                if let (Some(file), Err(Aborted::Query(error))) = (embedded, &result) {
                    set_freed.store(file.make_room(error), Ordering::Relaxed);
                }
                result
            };
            let result = self.on_connection(
                deadlines,
                writer.clone(),
                recording_outcome(self, first_attempt),
            );
            let result = result.await;
            if !has_freed.load(Ordering::Relaxed) {
                return result;
            }
            let second_attempt = move |conn: &mut Conn| work(conn);
            self.on_connection(deadlines, writer, recording_outcome(self, second_attempt))
                .await
        };
        self.traced("database write", self.within_deadline(deadlines, write))
            .await
    }

    /// Returns whether a change was committed within `period`, with no failed commit since.
    pub fn has_committed_within(&self, period: Duration) -> bool {
        self.shared.changes.has_committed_within(period)
    }

    /// Makes a change to find out whether the database accepts writes. Returns the reason if it does not.
    ///
    /// Returns `Ok` without a write if all connections are busy and the database responds on them.
    pub async fn probe_writes(
        &self,
        change: impl FnOnce(&mut Conn) -> QueryResult<()> + Send + 'static,
    ) -> Result<(), WriteFailure> {
        let (deadlines, has_begun) = (self.deadlines(), Arc::new(AtomicBool::new(false)));
        // Another change has held the write permit for this long and not ended: the database hangs.
        let writer = self
            .within_deadline(deadlines, self.writer(deadlines))
            .await;
        let writer =
            writer.map_err(|_| self.shared.changes.failure().unwrap_or(WriteFailure::Other))?;
        let set_begun = has_begun.clone();
        let change = move |conn: &mut Conn| {
            set_begun.store(true, Ordering::Relaxed);
            conn.write(|conn| Ok(change(conn)?))
        };
        let changed = self.on_connection(deadlines, writer, recording_outcome(self, change));
        let changed = self.within_deadline(deadlines, changed).await;
        let failure = self.shared.changes.failure();
        if changed.is_err() {
            let is_busy = !has_begun.load(Ordering::Relaxed)
                && self.has_responded_within(BUSY_IF_RESPONDED_WITHIN);
            return match failure {
                None if is_busy => Ok(()),
                cause => Err(cause.unwrap_or(WriteFailure::Other)),
            };
        }
        if failure == Some(WriteFailure::DiskFull) {
            let embedded = self.shared.embedded.as_ref();
            // A small change may still fit on a disk that is too full for others.
            if embedded.is_some_and(|file| file.is_disk_full()) {
                return Err(WriteFailure::DiskFull);
            }
            self.shared.changes.record_room();
        }
        Ok(())
    }
}
