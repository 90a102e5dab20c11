//! Identifies the files at the paths of the embedded database, by `stat` alone.
//!
//! No file is opened. Closing any descriptor of the database would drop every lock that SQLite holds on it (POSIX
//! `fcntl`).

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Identity of a file on a running system, independent of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of the file at the path.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

/// Size and modification time of a file, which change when a process writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    bytes: u64,
    written_at: (i64, i64),
}

impl Fingerprint {
    /// Returns the fingerprint of the file at the path.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self::of(&found))
    }

    /// Returns the fingerprint of a file that this process has open, wherever it was moved.
    pub(super) fn of_open(file: Identity) -> io::Result<Self> {
        // `stat` on an entry opens no file.
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

/// Identity of a file that later processes can compare.
///
/// It has no device number, which may change when the machine restarts. The creation time, where the file system
/// records one, distinguishes the file from a later one with the same inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PersistentIdentity {
    inode: u64,
    /// Creation time in nanoseconds since 1970. 0 if the file system records none.
    born: u128,
}

impl PersistentIdentity {
    /// Returns the identity of the file at the path.
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

/// Paths of the database's files. SQLite derives those of the log and index from the resolved path.
#[derive(Debug, Clone)]
pub(super) struct FilePaths {
    /// Path as configured, with symbolic links unresolved.
    pub database: PathBuf,
    pub log: PathBuf,
    /// Index of the log, in memory that processes share.
    pub index: PathBuf,
}

impl FilePaths {
    pub(super) fn of(database: &Path) -> Self {
        Self {
            database: database.to_owned(),
            log: beside(database, "-wal"),
            index: beside(database, "-shm"),
        }
    }
}

/// Returns the path of a file beside the database, with this suffix.
///
/// Symbolic links are resolved first, so that all paths to the database give the same result.
pub(in crate::db) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = super::super::writable::real_path(database).into_os_string();
    name.push(suffix);
    name.into()
}
