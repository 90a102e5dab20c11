//! Records which database and which write-ahead log (WAL, `-wal`) were served together, for the next process.
//!
//! A log does not say which database it belongs to. If a process is killed and its database is then replaced by a
//! backup, SQLite would apply the old log to the backup, which damages it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    EmbeddedFile,
    identity::{FilePaths, PersistentIdentity, beside},
};

/// Suffix of the file that the serving process locks. It contains the [`Record`].
pub(in crate::db) const SERVING: &str = ".serving";

/// Identities of a database and its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) struct Record {
    database: PersistentIdentity,
    log: PersistentIdentity,
}

/// Error raised when a database and the files beside it cannot be used together.
#[derive(Debug, thiserror::Error)]
pub(in crate::db) enum FilesError {
    #[error(
        "the file was replaced while a process serves it, and {} belongs to the previous file; stop the service first",
        .0.display()
    )]
    Served(PathBuf),
    #[error("the file was replaced, and its log (-wal) cannot be checked: cannot lock {}: {reason}", lock.display())]
    Locked { lock: PathBuf, reason: io::Error },
    #[error(
        "the file is missing, but {} has the latest changes of a database; move that database back, or move this \
         file away to start with an empty one", .0.display()
    )]
    NoDatabase(PathBuf),
    #[error("cannot set {} aside, which belongs to another database: {reason}", log.display())]
    Stuck { log: PathBuf, reason: io::Error },
}

impl Record {
    pub(in crate::db) fn of(file: &EmbeddedFile) -> io::Result<Self> {
        Ok(Self {
            database: PersistentIdentity::at(&file.paths.database)?,
            log: PersistentIdentity::at(&file.paths.log)?,
        })
    }

    /// Writes the record into the locked file.
    pub(in crate::db) fn write(&self, lock: &File) -> io::Result<()> {
        let (database, log) = (self.database.to_text(), self.log.to_text());
        lock.set_len(0)?;
        lock.write_all_at(format!("{database}\n{log}\n").as_bytes(), 0)?;
        lock.sync_data()
    }

    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines().map(PersistentIdentity::of_text);
        Some(Self {
            database: lines.next()??,
            log: lines.next()??,
        })
    }
}

/// Makes sure that the log at its path belongs to the database, and sets it aside if not.
///
/// Fails if a process serves the previous database.
pub(in crate::db) fn require_own_log(database: &Path) -> Result<(), FilesError> {
    if belong_together(database)? {
        return Ok(());
    }
    let path = beside(database, SERVING);
    let locked = |reason| FilesError::Locked {
        lock: path.clone(),
        reason,
    };
    let lock = OpenOptions::new().write(true).open(&path);
    let lock = lock.map_err(locked)?;
    match lock.try_lock() {
        Ok(()) => set_aside_foreign_log(database, &lock),
        // The process that holds the lock has the log and its index open, even if they are empty.
        Err(TryLockError::WouldBlock) => Err(FilesError::Served(FilePaths::of(database).log)),
        Err(TryLockError::Error(reason)) => Err(locked(reason)),
    }
}

/// Sets the log aside, by renaming it, if it belongs to a previous database. `lock` must be locked.
pub(in crate::db) fn set_aside_foreign_log(database: &Path, lock: &File) -> Result<(), FilesError> {
    let FilePaths { log, index, .. } = FilePaths::of(database);
    if belong_together(database)? {
        return Ok(());
    }
    let stuck = |reason| FilesError::Stuck {
        log: log.clone(),
        reason,
    };
    if is_recorded_log(&log, Record::read(&beside(database, SERVING))) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut aside = log.clone().into_os_string();
        aside.push(format!(".{}", since.map_or(0, |since| since.as_secs())));
        let aside = PathBuf::from(aside);
        fs::rename(&log, &aside).map_err(stuck)?;
        // The index has no data that is not in the log.
        let _ = fs::remove_file(index);
        let (database, log) = (database.display(), aside.display());
        tracing::warn!(
            %database, %log,
            "set a write-ahead log aside that belongs to a previous database; remove it if that is not needed"
        );
    }
    // The record is of a database that is no longer at the path.
    lock.set_len(0).map_err(stuck)
}

/// Returns whether the log may be used with the database. True if there is no record.
fn belong_together(database: &Path) -> Result<bool, FilesError> {
    let Ok(found) = PersistentIdentity::at(database) else {
        let log = FilePaths::of(database).log;
        return if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            Err(FilesError::NoDatabase(log))
        } else {
            Ok(true)
        };
    };
    let served = Record::read(&beside(database, SERVING));
    Ok(served.is_none_or(|served| served.database == found))
}

/// Returns whether the log has changes and is the one that was served.
fn is_recorded_log(log: &Path, served: Option<Record>) -> bool {
    let has_changes = fs::metadata(log).is_ok_and(|log| log.len() > 0);
    let found = PersistentIdentity::at(log).ok();
    has_changes && found.is_some() && found == served.map(|served| served.log)
}
