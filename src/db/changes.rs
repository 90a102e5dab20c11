//! Changes that a full disk does not stop, and the proof that changes can be made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diesel::QueryResult;

use super::{Aborted, Conn, Db, NoChanges, pool::noting};
use crate::domain::error::Error;

/// The time within which others must have got a response for the database to be busy and not gone.
const LATELY: Duration = Duration::from_secs(1);

impl Db {
    /// Makes changes that close a door, as [`Db::write`] does: see [`Db::as_closing_writer`].
    pub async fn write_closing<T: Send + 'static>(
        &self,
        changes: impl Fn(&mut Conn) -> Result<T, Aborted> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        self.as_closing_writer(move |conn| conn.write(&changes))
            .await
    }

    /// Does what [`Db::as_writer`] does, for a change that closes a door. If the disk of the embedded database is
    /// full, the change is made again in space that is kept back for this, before anybody else writes.
    pub async fn as_closing_writer<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Conn) -> Result<T, Aborted> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let times = self.times();
        let work = Arc::new(work);
        let write = async {
            let writer = self.writer(times).await?;
            let (first, freed) = (work.clone(), Arc::new(AtomicBool::new(false)));
            let (embedded, noted) = (self.shared.embedded.clone(), freed.clone());
            let first = move |conn: &mut Conn| {
                let ended = first(conn);
                if let (Some(file), Err(Aborted::Query(error))) = (embedded, &ended) {
                    noted.store(file.make_room(error), Ordering::Relaxed);
                }
                ended
            };
            let ended = self.on_connection(times, writer.clone(), noting(self, first));
            let ended = ended.await;
            if !freed.load(Ordering::Relaxed) {
                return ended;
            }
            let again = move |conn: &mut Conn| work(conn);
            self.on_connection(times, writer, noting(self, again)).await
        };
        self.traced("database write", self.in_time(times, write))
            .await
    }

    /// Returns whether it has committed a change this lately, and failed to commit none since.
    pub fn has_changed_within(&self, lately: Duration) -> bool {
        self.shared.changes.holds(lately)
    }

    /// Makes a change to see whether it can be made, and says why not. If it gets no connection, since all of them
    /// answer others, nothing speaks against it.
    pub async fn prove_changes(
        &self,
        change: impl FnOnce(&mut Conn) -> QueryResult<()> + Send + 'static,
    ) -> Result<(), NoChanges> {
        let (times, began) = (self.times(), Arc::new(AtomicBool::new(false)));
        // Who holds the writer's permit for this long, with no change to show for it, hangs.
        let writer = self.in_time(times, self.writer(times)).await;
        let writer =
            writer.map_err(|_| self.shared.changes.refused().unwrap_or(NoChanges::Other))?;
        let noted = began.clone();
        let change = move |conn: &mut Conn| {
            noted.store(true, Ordering::Relaxed);
            conn.write(|conn| Ok(change(conn)?))
        };
        let changed = self.on_connection(times, writer, noting(self, change));
        let changed = self.in_time(times, changed).await;
        let refused = self.shared.changes.refused();
        if changed.is_err() {
            let is_busy = !began.load(Ordering::Relaxed) && self.has_answered_within(LATELY);
            return match refused {
                None if is_busy => Ok(()),
                cause => Err(cause.unwrap_or(NoChanges::Other)),
            };
        }
        if refused == Some(NoChanges::DiskFull) {
            let embedded = self.shared.embedded.as_ref();
            // A small change may find room where others do not.
            if embedded.is_some_and(|file| file.is_disk_full()) {
                return Err(NoChanges::DiskFull);
            }
            self.shared.changes.note_room();
        }
        Ok(())
    }
}
