//! Checks before an embedded database is opened that its file and folder are writable.
//!
//! SQLite opens a database that it cannot write without an error, and fails at the first change.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::manager::create_folder_of;

/// Error raised when an embedded database is not writable. Its message includes the remedy.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write {}: {reason}; grant write access to the user that runs latchkey, or name another file with \
     DATABASE_URL (sqlite://path)", path.display()
)]
pub struct NotWritable {
    path: PathBuf,
    reason: io::Error,
}

/// Fails unless the file, and other files beside it, can be written. Creates the folder if it is missing.
///
/// Opens no file, because that could drop SQLite's locks: see `create_private`.
pub(super) fn require_writable(database: &Path) -> Result<(), NotWritable> {
    let not_writable = |reason: io::Error| NotWritable {
        path: database.to_owned(),
        reason,
    };
    create_folder_of(database).map_err(not_writable)?;
    // SQLite keeps its other files beside the real file, not beside a symbolic link.
    let file = real_path(database);
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let require_access =
        |path: &Path, mode: Access| access(path, mode).map_err(|error| not_writable(error.into()));
    require_access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    if file.exists() {
        require_access(&file, Access::READ_OK | Access::WRITE_OK)
    } else {
        Ok(())
    }
}

/// Returns whether the file exists and can be read and written. Creates nothing.
pub(super) fn is_writable(file: &Path) -> bool {
    access(file, Access::READ_OK | Access::WRITE_OK).is_ok()
}

/// Returns the path of a file, existing or not, with symbolic links resolved.
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
