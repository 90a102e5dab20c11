//! Opens connections to an existing embedded database.

use std::{os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};

use super::LOG_LIMIT;
use crate::{
    db::{ConnectError, interrupt},
    domain::error::Error,
};

/// Opens an existing embedded database. SQLite creates none.
///
/// `require` checks the files before and after SQLite opens the database and its log by their paths.
pub(in crate::db) fn open_existing(
    path: &Path,
    timeout: Duration,
    require: impl Fn() -> Result<(), Error>,
) -> Result<SqliteConnection, ConnectError> {
    let failed = |reason: &dyn ToString| ConnectError::sqlite(path, reason);
    let require = || require().map_err(|error| failed(&error.cause().unwrap_or_default()));
    require()?;
    interrupt::heed_deadlines();
    let mut conn =
        SqliteConnection::establish(&sqlite_uri(path)).map_err(|error| failed(&error))?;
    require()?;
    // FULL, because NORMAL can lose a commit when the power fails.
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {};
         PRAGMA journal_mode = WAL;
         PRAGMA journal_size_limit = {LOG_LIMIT};
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;",
        timeout.as_millis()
    ))
    .map_err(|error| failed(&error))?;
    require()?;
    Ok(conn)
}

/// Returns the URI of an existing file, to be read and written (<https://www.sqlite.org/uri.html>).
fn sqlite_uri(path: &Path) -> String {
    // In `file://host/path` the host is empty.
    let mut uri = String::from(if path.is_absolute() {
        "file://"
    } else {
        "file:"
    });
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?mode=rw");
    uri
}
