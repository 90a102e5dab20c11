//! Whether an embedded database can be written: asked before anything is done with it, since SQLite opens
//! one that cannot, and says so at the first change.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::manager::make_folder_of;

/// Why not, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write {}: {reason}; let the user that runs it write there, or name another file with \
     DATABASE_URL (sqlite://path)", path.display()
)]
pub struct NotWritable {
    path: PathBuf,
    reason: io::Error,
}

/// Whether the file can be written, and others beside it. Makes the folder if it is missing. Nothing is
/// opened: see `make_private`.
pub(super) fn require_writable(database: &Path) -> Result<(), NotWritable> {
    let refused = |reason: io::Error| NotWritable {
        path: database.to_owned(),
        reason,
    };
    make_folder_of(database).map_err(refused)?;
    // SQLite keeps its other files beside the real one.
    let file = real_path(database);
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let may = |path: &Path, what: Access| access(path, what).map_err(|error| refused(error.into()));
    may(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    match file.exists() {
        true => may(&file, Access::READ_OK | Access::WRITE_OK),
        false => Ok(()),
    }
}

/// Returns whether a file that is there can be written. Makes nothing.
pub(super) fn is_writable(file: &Path) -> bool {
    access(file, Access::READ_OK | Access::WRITE_OK).is_ok()
}

/// Where a file is, or will be.
pub(super) fn real_path(file: &Path) -> PathBuf {
    let in_real_folder = || {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Some(folder.canonicalize().ok()?.join(file.file_name()?))
    };
    let found = file.canonicalize().ok().or_else(in_real_folder);
    found.unwrap_or_else(|| file.to_owned())
}
