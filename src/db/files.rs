//! Methods of [`Db`] on the files of an embedded database. On PostgreSQL there are no files, so none is ever lost.

use std::{fs::File, io};

use super::{Db, embedded::Record};
use crate::config::DatabaseConfig;

impl Db {
    /// Opens another pool on the same database. On an embedded one it is limited to the files of this pool.
    pub fn beside(&self, config: &DatabaseConfig) -> Self {
        Self::with(config, self.shared.embedded.clone())
    }

    /// Starts to watch the files, and records their identity in the locked file `lock`.
    pub(super) fn keep_files(&self, lock: &File) -> io::Result<()> {
        let Some(file) = &self.shared.embedded else {
            return Ok(());
        };
        if let Err(error) = Record::of(file).and_then(|record| record.write(lock)) {
            tracing::warn!(
                %error,
                "failed to record which database is served; after a crash, move its -wal away before restoring a backup"
            );
        }
        file.watch()
    }

    /// Checkpoints and truncates the write-ahead log (WAL) of an embedded database.
    ///
    /// Afterwards the database file is complete without the log. If this fails, the next start does it.
    pub async fn finish(&self) {
        if let Some(file) = self.shared.embedded.clone() {
            let _ = tokio::task::spawn_blocking(move || file.finish()).await;
        }
    }

    /// Returns a description of the loss if files of the database are missing or replaced. It names no path.
    pub fn file_loss(&self) -> Option<String> {
        self.shared.embedded.as_ref()?.loss()
    }

    /// Returns the number of times that the files have been lost so far.
    pub fn file_losses(&self) -> u64 {
        self.shared
            .embedded
            .as_ref()
            .map_or(0, |file| file.losses())
    }

    /// Waits until the files are lost. Returns at once if they are.
    pub async fn wait_for_file_loss(&self) {
        match &self.shared.embedded {
            Some(file) => file.lost().await,
            None => std::future::pending().await,
        }
    }
}
