//! Exclusive right to serve a database, which permits to cache its contents.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    Db,
    embedded::{SERVING, beside, set_aside_foreign_log},
    writable::{NotWritable, require_writable},
};
use crate::config::database_url::DatabaseUrl;

/// Exclusive right to serve a database.
///
/// Instances on PostgreSQL notify one another of changes, so any number of them may serve one database. An
/// embedded database is served by one process at a time. The lock is held until the claim is dropped or the process
/// ends for any reason.
#[derive(Debug)]
pub struct Claim {
    lock: Option<File>,
}

/// Error raised when a database cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(
        "another process serves {}, and only one may at a time; stop that process, or set DATABASE_URL to a \
         PostgreSQL database to run several", .0.display()
    )]
    Taken(PathBuf),
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    #[error("cannot lock {}: {reason}", path.display())]
    Lock { path: PathBuf, reason: io::Error },
    #[error("cannot use {}: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
}

impl Claim {
    /// Claims the database. Fails if another process serves an embedded one.
    pub fn take(url: &DatabaseUrl) -> Result<Self, ClaimError> {
        let lock = url.sqlite_path().map(lock).transpose()?;
        Ok(Self { lock })
    }

    /// Starts to watch the files of the database that this pool serves, and records their identity.
    ///
    /// The record keeps a write-ahead log that is left behind from being applied to another database.
    pub fn keep(&self, db: &Db) -> io::Result<()> {
        match &self.lock {
            Some(lock) => db.keep_files(lock),
            None => Ok(()),
        }
    }
}

/// Locks a file beside the database. Only SQLite may lock the database file itself.
fn lock(database: &Path) -> Result<File, ClaimError> {
    if database.is_symlink() && !database.exists() {
        return Err(ClaimError::Lock {
            path: database.to_owned(),
            reason: io::Error::other("it is a symbolic link whose target does not exist"),
        });
    }
    require_writable(database)?;
    let path = beside(database, SERVING);
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
    };
    let locked = open().map_err(TryLockError::Error).and_then(|file| {
        file.try_lock()?;
        Ok(file)
    });
    let locked = locked.map_err(|error| match error {
        TryLockError::WouldBlock => ClaimError::Taken(database.to_owned()),
        TryLockError::Error(reason) => ClaimError::Lock { path, reason },
    })?;
    set_aside_foreign_log(database, &locked).map_err(|error| ClaimError::Unusable {
        path: database.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(locked)
}
