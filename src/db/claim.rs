//! The right to serve a database: to answer from memory what it says.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    Db,
    embedded::{SERVING, beside, settle_unserved},
    writable::{NotWritable, require_writable},
};
use crate::config::database_url::DatabaseUrl;

/// Instances on PostgreSQL tell one another what changes, so any number of them may serve it. An
/// embedded database has one process at a time that does: the lock is held until this is dropped, or
/// the process ends, however it does.
#[derive(Debug)]
pub struct Claim {
    lock: Option<File>,
}

/// Why a database cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(
        "another process serves {}, which is for one at a time; stop that one, or give several \
         a PostgreSQL with DATABASE_URL", .0.display()
    )]
    Taken(PathBuf),
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    #[error("cannot lock {}: {reason}", path.display())]
    Lock { path: PathBuf, reason: io::Error },
    #[error("cannot use {}: {reason}", path.display())]
    Unfit { path: PathBuf, reason: String },
}

impl Claim {
    /// Takes it, if nobody has it.
    pub fn take(url: &DatabaseUrl) -> Result<Self, ClaimError> {
        let lock = url.sqlite_path().map(lock).transpose()?;
        Ok(Self { lock })
    }

    /// Watches over the files of the database that is served through this pool, and notes which they are: a log
    /// that is left behind is not brought into another database.
    pub fn keep(&self, db: &Db) -> io::Result<()> {
        match &self.lock {
            Some(lock) => db.keep_files(lock),
            None => Ok(()),
        }
    }
}

/// Locks a file beside the database. The database itself is SQLite's to lock.
fn lock(database: &Path) -> Result<File, ClaimError> {
    if database.is_symlink() && !database.exists() {
        return Err(ClaimError::Lock {
            path: database.to_owned(),
            reason: io::Error::other("it is a link that leads nowhere"),
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
    settle_unserved(database, &locked).map_err(|error| ClaimError::Unfit {
        path: database.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(locked)
}
