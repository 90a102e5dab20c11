//! Which file a path leads to. Nothing is opened: closing any descriptor of the database would drop every lock
//! that SQLite holds on it (POSIX `fcntl`).

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// A file, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The file that the path leads to.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

/// The size and times of a file: they differ once somebody has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    bytes: u64,
    written_at: (i64, i64),
}

impl Print {
    /// Of the file that the path leads to.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self::of(&found))
    }

    /// Of a file that this process has open, whatever its name is now.
    pub(super) fn of_open(file: Identity) -> io::Result<Self> {
        // To look at an entry opens nothing.
        for entry in fs::read_dir("/dev/fd")? {
            if let Ok(found) = fs::metadata(entry?.path())
                && (found.dev(), found.ino()) == (file.device, file.inode)
            {
                return Ok(Self::of(&found));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn of(found: &fs::Metadata) -> Self {
        Self {
            bytes: found.len(),
            written_at: (found.mtime(), found.mtime_nsec()),
        }
    }
}

/// A file as the next process recognises it. Device numbers may differ after a restart of the machine. The
/// time of creation tells it from a later file that got the same inode number, where the file system keeps one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lasting {
    inode: u64,
    born: u128,
}

impl Lasting {
    /// The file that the path leads to.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        let born = found.created().ok();
        let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            inode: found.ino(),
            born: born.map_or(0, |born| born.as_nanos()),
        })
    }

    pub(super) fn to_text(self) -> String {
        format!("{} {}", self.inode, self.born)
    }

    pub(super) fn of_text(text: &str) -> Option<Self> {
        let (inode, born) = text.split_once(' ')?;
        Some(Self {
            inode: inode.parse().ok()?,
            born: born.parse().ok()?,
        })
    }
}

/// The names of the database's files, as SQLite makes them from where the path leads.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// As it was configured.
    pub database: PathBuf,
    pub log: PathBuf,
    /// The index of the log, in memory that processes share.
    pub index: PathBuf,
}

impl Names {
    pub(super) fn of(database: &Path) -> Self {
        Self {
            database: database.to_owned(),
            log: beside(database, "-wal"),
            index: beside(database, "-shm"),
        }
    }
}

/// The name of a file beside the real database: several names may lead to it.
pub(in crate::db) fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = super::super::writable::real_path(database).into_os_string();
    name.push(end);
    name.into()
}
