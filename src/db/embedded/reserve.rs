//! Disk space that is kept back for changes that close a door: a full disk must not keep anybody from revoking a
//! key.
//!
//! The reserve is a file beside the database. It is cut shorter when such a change finds the disk full, and the
//! change is made again in what that frees. It is filled up when there is space again.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use diesel::result::Error as QueryError;
use rand::{TryRng as _, rngs::SysRng};
use rustix::fs::{Mode, OFlags, fstatvfs, openat, statat};

use super::EmbeddedFile;
use crate::db::NoChanges;

/// The part of it that one change gets. A revocation writes some ten pages of 4 KiB into the log, and the log's index
/// may grow.
const SLICE: u64 = 128 * 1024;
/// The number of changes that get some.
const SLICES: u64 = 8;
/// The space that has to be free besides, so that the reserve does not take the last space from other changes.
const SPARE: u64 = 1024 * 1024;
/// With less than this the disk counts as full, after a change has found it so: the next one may fail again.
const ROOM: u64 = 256 * 1024;

/// The file.
#[derive(Debug)]
pub(super) struct Reserve {
    /// The folder, by a descriptor: its path may lead to another one, in which nothing is to be created.
    folder: File,
    name: OsString,
    /// For the log.
    path: PathBuf,
    /// Held by whoever changes it.
    file: Mutex<()>,
    /// Set once it was said that it is short.
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

    /// Frees a part of it. `false` if there is none.
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
        // Some file systems free the blocks with their next journal entry only.
        file.sync_all()?;
        let (file, left) = (self.path.display(), after / SLICE);
        tracing::warn!(%file, left, "the disk is full: used a part of the reserve for a change");
        Ok(true)
    }

    /// Fills it up when there is space, and says once if there is none.
    pub(super) fn keep(&self) {
        let why = match self.restore() {
            Ok(true) => {
                self.is_short.store(false, Ordering::Relaxed);
                return;
            }
            Ok(false) => "too little of the disk is free".to_owned(),
            Err(error) => error.to_string(),
        };
        if !self.is_short.swap(true, Ordering::Relaxed) {
            let file = self.path.display();
            tracing::warn!(
                %file,
                "the reserve is short, which lets keys be revoked on a full disk: {why}; free some space"
            );
        }
    }

    /// Answers whether it is whole.
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
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the disk has no space for a change.
    pub(super) fn is_disk_full(&self) -> bool {
        self.free().is_ok_and(|free| free < ROOM)
    }

    fn open(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.folder, &self.name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(file.into())
    }

    /// The bytes of the disk that whoever runs this may still use.
    fn free(&self) -> io::Result<u64> {
        let space = fstatvfs(&self.folder)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// Random bytes: a file system that compresses would keep no space for others.
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
    /// Frees a part of the reserve if a change failed since the disk is full.
    pub(in crate::db) fn make_room(&self, error: &QueryError) -> bool {
        let is_full = match NoChanges::of(error) {
            Some(NoChanges::DiskFull) => true,
            // The log's index did not fit, which SQLite tells as it does any other failure.
            Some(NoChanges::Other) => self.is_disk_full(),
            _ => false,
        };
        is_full
            && self.reserve.release().unwrap_or_else(|error| {
                tracing::warn!(%error, "failed to free the reserve for a change");
                false
            })
    }

    /// Returns whether the disk has no space for a change.
    pub(in crate::db) fn is_disk_full(&self) -> bool {
        self.reserve.is_disk_full()
    }
}

/// Opens a folder to reach the files in it. On Linux it need not be readable, as SQLite needs it not.
fn open_folder(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY;
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
