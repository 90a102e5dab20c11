//! Keeps the log (`-wal`) small, and empties it when the database is lost.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Integer};

use super::{
    EmbeddedFile, Keeper,
    identity::{Identity, Print},
    loss::Loss,
};

/// The size to which the log is cut. SQLite copies it into the database every 1,000 pages (4 MiB) and starts it
/// anew when nobody reads from it any more, so that it stays below this with short readers. A smaller number
/// would give back blocks that the next changes need again.
pub(in crate::db) const LOG_LIMIT: u64 = 16 * 1024 * 1024;

/// The time after the database was last seen at its path in which nobody else can have moved it, opened it and written
/// to it: what is opened anew is written to its own log first.
const ALONE_FOR: Duration = Duration::from_secs(1);

impl EmbeddedFile {
    /// Does what is due. Whatever fails is tried again the next time.
    pub(super) fn keep(&self) {
        if self.loss().is_some() {
            self.rescue();
            self.use_again();
            return;
        }
        self.reserve.keep();
        let size = std::fs::metadata(&self.names.log).map(|log| log.len());
        if size.is_ok_and(|size| size > LOG_LIMIT) {
            self.shrink_log();
        }
    }

    /// Empties the log before the process ends.
    pub(in crate::db) fn finish(&self) {
        if self.require().is_err() {
            self.rescue();
        } else if let Err(error) = checkpoint(&mut self.keeper().conn, "TRUNCATE") {
            tracing::debug!(%error, "failed to empty the database's log");
        }
    }

    /// Empties the log into the database that is open, once. What was acknowledged is in that file then, wherever
    /// it was moved to. A database that has taken its place gets a log of its own.
    fn rescue(&self) {
        let losses = self.losses();
        let mut keeper = self.keeper();
        let is_done = |keeper: &Keeper| keeper.rescued.is_some_and(|(loss, _)| loss == losses);
        if !is_done(&keeper) && self.is_ours() {
            let emptied = checkpoint(&mut keeper.conn, "TRUNCATE");
            // Also with a reader that kept it from coming to its end it may have written to the file.
            if let Ok(print) = Print::of_open(self.opened.database) {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).1 = print;
            }
            let is_emptied = emptied.as_ref().is_ok_and(|emptied| emptied.busy == 0);
            match Print::of_open(self.opened.database) {
                Ok(print) if is_emptied => {
                    keeper.rescued = Some((losses, print));
                    tracing::info!(
                        "all changes are in the database file that is open, and its log is empty"
                    );
                }
                _ => tracing::debug!(error = ?emptied.err(), "cannot empty the lost log yet"),
            }
        }
        if is_done(&keeper) && self.has_another_in_its_place() {
            self.take_log_away();
        }
    }

    /// Returns whether nobody else can have written to the database since it was lost: whoever opens it under another name
    /// knows nothing of the log here, which would overwrite what they wrote.
    fn is_ours(&self) -> bool {
        let (at, print) = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Print::of_open(self.opened.database);
        at.elapsed() < ALONE_FOR || found.is_ok_and(|found| found == print)
    }

    /// Uses the files again if they are back, and nobody has written to the database meanwhile: what SQLite keeps
    /// in memory would not fit it.
    fn use_again(&self) {
        let rescued = self.keeper().rescued;
        let Some((_, print)) = rescued.filter(|(loss, _)| *loss == self.losses()) else {
            return;
        };
        if self.find_loss().is_some() {
            return;
        }
        let database = &self.names.database;
        let is_same = Print::at(database).is_ok_and(|found| found == print);
        if is_same {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), print);
        }
        self.change_to((!is_same).then(|| Loss::changed(database)));
    }

    /// Removes the names of the log and its index, which whoever opens the other database would use.
    fn take_log_away(&self) {
        let Self { names, opened, .. } = self;
        for (path, known) in [(&names.log, opened.log), (&names.index, opened.index)] {
            if Identity::at(path).is_ok_and(|found| found == known)
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::debug!(%error, "failed to remove the log of the lost database");
            }
        }
    }

    /// A reader that takes long keeps the log from being started anew. Nothing would shrink it afterwards until
    /// somebody changes something.
    fn shrink_log(&self) {
        let mut keeper = self.keeper();
        // Nobody waits for this; then there is nothing left to copy while writers wait.
        let copied = checkpoint(&mut keeper.conn, "PASSIVE");
        let is_all =
            copied.is_ok_and(|copied| copied.busy == 0 && copied.log == copied.checkpointed);
        if is_all && let Err(error) = checkpoint(&mut keeper.conn, "TRUNCATE") {
            tracing::debug!(%error, "failed to shrink the database's log");
        }
    }
}

/// The result of a checkpoint, as SQLite reports it.
#[derive(QueryableByName)]
struct Checkpoint {
    /// 0 if it did all that it was asked.
    #[diesel(sql_type = Integer)]
    busy: i32,
    /// Pages in the log.
    #[diesel(sql_type = Integer)]
    log: i32,
    /// The number of these that are in the database.
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

fn checkpoint(conn: &mut diesel::SqliteConnection, mode: &str) -> QueryResult<Checkpoint> {
    sql_query(format!("PRAGMA wal_checkpoint({mode})")).get_result(conn)
}
