//! The files of an embedded database, as a pool sees them. On PostgreSQL there are none.

use std::{fs::File, io};

use super::{Db, embedded::Record};
use crate::config::DatabaseConfig;

impl Db {
    /// Another pool to the same database. The files of an embedded one are those of this pool.
    pub fn beside(&self, config: &DatabaseConfig) -> Self {
        Self::with(config, self.shared.embedded.clone())
    }

    /// Watches over the files and notes which they are in `lock`.
    pub(super) fn keep_files(&self, lock: &File) -> io::Result<()> {
        let Some(file) = &self.shared.embedded else {
            return Ok(());
        };
        if let Err(error) = Record::of(file).and_then(|record| record.write(lock)) {
            tracing::warn!(
                %error,
                "failed to note which database is served: after a crash, move its -wal away before a backup is restored"
            );
        }
        file.watch()
    }

    /// Empties the log of an embedded database into its file, which is whole by itself then. That may fail: the
    /// next start does it.
    pub async fn finish(&self) {
        if let Some(file) = self.shared.embedded.clone() {
            let _ = tokio::task::spawn_blocking(move || file.finish()).await;
        }
    }

    /// Returns the loss of the files, if they are lost. It names no path.
    pub fn lost_files(&self) -> Option<String> {
        self.shared.embedded.as_ref()?.loss()
    }

    /// The number of times that they were lost so far.
    pub fn losses(&self) -> u64 {
        self.shared
            .embedded
            .as_ref()
            .map_or(0, |file| file.losses())
    }

    /// Waits until they are lost, which may be now.
    pub async fn files_lost(&self) {
        match &self.shared.embedded {
            Some(file) => file.lost().await,
            None => std::future::pending().await,
        }
    }
}
