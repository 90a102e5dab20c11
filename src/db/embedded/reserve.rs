//! Reserves disk space for revoking changes, so that a key can be revoked on a full disk.
//!
//! The reserve is a file beside the database. When a revoking change finds the disk full, the file is shortened and
//! the change is made again in the freed space. The file is refilled when the disk has space again.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use diesel::result::Error as QueryError;
use parking_lot::{Mutex, MutexGuard};
use rand::{TryRng as _, rngs::SysRng};
use rustix::fs::{Mode, OFlags, fstatvfs, openat, statat};

use super::EmbeddedFile;
use crate::db::WriteFailure;

/// Bytes that are freed for one change.
///
/// A revocation writes about ten pages of 4 KiB into the write-ahead log, and the log's index may grow.
const SLICE: u64 = 128 * 1024;
/// Number of changes that the reserve is for.
const SLICES: u64 = 8;
/// Bytes that must remain free after a refill, so that the reserve does not take the last space from other changes.
const SPARE: u64 = 1024 * 1024;
/// Free bytes below which the disk still counts as full after a change has failed: the next one may fail too.
const ROOM: u64 = 256 * 1024;

/// File that reserves disk space.
#[derive(Debug)]
pub(super) struct Reserve {
    /// Descriptor of the folder. Its path may later lead to another folder, where no file may be created.
    folder: File,
    name: OsString,
    /// Path of the file, for log messages.
    path: PathBuf,
    /// Lock held while the file is changed.
    file: Mutex<()>,
    /// True once it has been logged that the reserve cannot be filled.
    is_short: AtomicBool,
}

impl Reserve {
    pub(super) fn beside(database: &Path) -> io::Result<Self> {
        let path = super::beside(database, ".reserve");
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Ok(Self {
            folder: open_folder(folder)?,
            name: path.file_name().unwrap_or_default().to_owned(),
            path,
            file: Mutex::default(),
            is_short: AtomicBool::default(),
        })
    }

    /// Frees part of the reserve. Returns false if nothing is left.
    fn release(&self) -> io::Result<bool> {
        let _file = self.lock();
        let file = match self.open(OFlags::WRONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let before = file.metadata()?.len();
        if before == 0 {
            return Ok(false);
        }
        let after = before.saturating_sub(SLICE);
        file.set_len(after)?;
        // Some file systems free the blocks only with their next journal entry.
        file.sync_all()?;
        let (file, left) = (self.path.display(), after / SLICE);
        tracing::warn!(%file, left, "the disk is full: used part of the reserve for a change");
        Ok(true)
    }

    /// Refills the reserve if the disk has space. Logs once if it has not.
    pub(super) fn refill(&self) {
        let reason = match self.restore() {
            Ok(true) => {
                self.is_short.store(false, Ordering::Relaxed);
                return;
            }
            Ok(false) => "too little disk space is free".to_owned(),
            Err(error) => error.to_string(),
        };
        if !self.is_short.swap(true, Ordering::Relaxed) {
            let file = self.path.display();
            tracing::warn!(
                %file,
                "failed to reserve disk space for revocations on a full disk: {reason}; free some disk space"
            );
        }
    }

    /// Fills the file to its full size. Returns whether it has that size.
    fn restore(&self) -> io::Result<bool> {
        let _file = self.lock();
        let length = statat(&self.folder, &self.name, rustix::fs::AtFlags::empty());
        let length = length.map_or(0, |file| u64::try_from(file.st_size).unwrap_or(0));
        let missing = (SLICE * SLICES).saturating_sub(length);
        if missing == 0 {
            return Ok(true);
        }
        if self.free()? < missing + SPARE {
            return Ok(false);
        }
        let file = self.open(OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)?;
        fill(file, missing)?;
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.file.lock()
    }

    /// Returns whether the disk has too little space for a change.
    pub(super) fn is_disk_full(&self) -> bool {
        self.free().is_ok_and(|free| free < ROOM)
    }

    fn open(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.folder, &self.name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(file.into())
    }

    /// Returns the number of free bytes on the disk that the user of this process may use.
    fn free(&self) -> io::Result<u64> {
        let space = fstatvfs(&self.folder)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// Appends random bytes: a compressing file system would reserve no space for constant ones.
fn fill(mut file: File, mut missing: u64) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    while missing > 0 {
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(io::Error::other)?;
        let part = bytes.len().min(missing as usize);
        file.write_all(&bytes[..part])?;
        missing -= part as u64;
    }
    file.sync_all()
}

impl EmbeddedFile {
    /// Frees part of the reserve if the change failed because the disk is full. Returns whether it did.
    pub(in crate::db) fn make_room(&self, error: &QueryError) -> bool {
        let is_full = match WriteFailure::of(error) {
            Some(WriteFailure::DiskFull) => true,
            // If the log's index did not fit, SQLite reports a generic error.
            Some(WriteFailure::Other) => self.is_disk_full(),
            _ => false,
        };
        is_full
            && self.reserve.release().unwrap_or_else(|error| {
                tracing::warn!(%error, "failed to free reserved disk space for a change");
                false
            })
    }

    /// Returns whether the disk has too little space for a change.
    pub(in crate::db) fn is_disk_full(&self) -> bool {
        self.reserve.is_disk_full()
    }
}

/// Opens a folder to access the files in it. On Linux it need not be readable, as SQLite does not require it either.
fn open_folder(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY;
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
