//! Keeps the write-ahead log (WAL, `-wal`) small, and checkpoints it when the database is lost.

use std::time::{Duration, Instant};

use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Integer};

use super::{
    EmbeddedFile, Keeper,
    identity::{Fingerprint, Identity},
    loss::Loss,
};

/// Size in bytes to which the log is truncated.
///
/// SQLite copies the log into the database every 1,000 pages (4 MiB) and restarts it when no reader uses it any
/// more. So the log stays below this limit with short readers. A smaller limit would free disk blocks that the next
/// changes need again.
pub(in crate::db) const LOG_LIMIT: u64 = 16 * 1024 * 1024;

/// Time after the last check of the path in which no other process can have changed the database file.
///
/// In this time a process would have to move the file, open it and write to it. It writes to its own log first.
const UNCHANGED_FOR: Duration = Duration::from_secs(1);

impl EmbeddedFile {
    /// Does the periodic maintenance. Work that fails is tried again in the next round.
    pub(super) fn maintain(&self) {
        if self.loss().is_some() {
            self.rescue();
            self.resume();
            return;
        }
        self.reserve.refill();
        let size = std::fs::metadata(&self.paths.log).map(|log| log.len());
        if size.is_ok_and(|size| size > LOG_LIMIT) {
            self.shrink_log();
        }
    }

    /// Checkpoints and truncates the log before the process ends.
    pub(in crate::db) fn finish(&self) {
        if self.require().is_err() {
            self.rescue();
        } else if let Err(error) = checkpoint(&mut self.keeper().conn, "TRUNCATE") {
            tracing::debug!(%error, "failed to truncate the database's write-ahead log");
        }
    }

    /// Checkpoints the log into the open database file, once for each loss.
    ///
    /// Afterwards all acknowledged changes are in that file, wherever it was moved. If another database is at the
    /// path, the old log is removed so that the other database gets its own.
    fn rescue(&self) {
        let losses = self.losses();
        let mut keeper = self.keeper();
        let is_done = |keeper: &Keeper| keeper.rescued.is_some_and(|(loss, _)| loss == losses);
        if !is_done(&keeper) && self.is_unchanged() {
            let result = checkpoint(&mut keeper.conn, "TRUNCATE");
            // A checkpoint that a reader kept from completing may have written to the file too.
            if let Ok(fingerprint) = Fingerprint::of_open(self.opened.database) {
                self.last_seen.lock().1 = fingerprint;
            }
            let is_complete = result.as_ref().is_ok_and(|result| result.busy == 0);
            match Fingerprint::of_open(self.opened.database) {
                Ok(fingerprint) if is_complete => {
                    keeper.rescued = Some((losses, fingerprint));
                    tracing::info!(
                        "all changes are in the database file that is open, and its write-ahead log is empty"
                    );
                }
                _ => tracing::debug!(
                    error = ?result.err(),
                    "failed to truncate the write-ahead log of the lost database; trying again"
                ),
            }
        }
        if is_done(&keeper) && self.was_replaced() {
            self.remove_log();
        }
    }

    /// Returns whether no other process has written to the database file since it was lost.
    ///
    /// A process that opens the file under another name does not use the log here. A checkpoint of the log would
    /// overwrite the changes of that process.
    fn is_unchanged(&self) -> bool {
        let (at, fingerprint) = *self.last_seen.lock();
        let found = Fingerprint::of_open(self.opened.database);
        at.elapsed() < UNCHANGED_FOR || found.is_ok_and(|found| found == fingerprint)
    }

    /// Resumes the use of the files if they are back and no other process has written to the database meanwhile.
    ///
    /// After such a write, the pages and state that SQLite keeps in memory would not match the file.
    fn resume(&self) {
        let rescued = self.keeper().rescued;
        let Some((_, fingerprint)) = rescued.filter(|(loss, _)| *loss == self.losses()) else {
            return;
        };
        if self.find_loss().is_some() {
            return;
        }
        let database = &self.paths.database;
        let is_same = Fingerprint::at(database).is_ok_and(|found| found == fingerprint);
        if is_same {
            *self.last_seen.lock() = (Instant::now(), fingerprint);
        }
        self.set_loss((!is_same).then(|| Loss::changed(database)));
    }

    /// Removes the log and its index from their paths, where a process that opens the other database would use them.
    fn remove_log(&self) {
        let Self { paths, opened, .. } = self;
        for (path, opened) in [(&paths.log, opened.log), (&paths.index, opened.index)] {
            if Identity::at(path).is_ok_and(|found| found == opened)
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::debug!(%error, "failed to remove the write-ahead log of the lost database");
            }
        }
    }

    /// Shrinks the log after a long read.
    ///
    /// The read keeps SQLite from restarting the log. Afterwards SQLite would shrink it only at the next change.
    fn shrink_log(&self) {
        let mut keeper = self.keeper();
        // A passive checkpoint blocks no writer. Afterwards the truncation, which does, has nothing left to copy.
        let result = checkpoint(&mut keeper.conn, "PASSIVE");
        let is_complete =
            result.is_ok_and(|result| result.busy == 0 && result.log == result.checkpointed);
        if is_complete && let Err(error) = checkpoint(&mut keeper.conn, "TRUNCATE") {
            tracing::debug!(%error, "failed to shrink the database's write-ahead log");
        }
    }
}

/// Result of a checkpoint, as SQLite reports it.
#[derive(QueryableByName)]
struct Checkpoint {
    /// 0 if the checkpoint was not blocked.
    #[diesel(sql_type = Integer)]
    busy: i32,
    /// Number of pages in the log.
    #[diesel(sql_type = Integer)]
    log: i32,
    /// Number of pages of the log that are in the database.
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

fn checkpoint(conn: &mut diesel::SqliteConnection, mode: &str) -> QueryResult<Checkpoint> {
    sql_query(format!("PRAGMA wal_checkpoint({mode})")).get_result(conn)
}
