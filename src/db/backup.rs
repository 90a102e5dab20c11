//! Backs up the embedded database into one file while it is served.
//!
//! `VACUUM INTO` reads in one transaction, so the copy is a snapshot. In WAL mode concurrent writers do not wait, and
//! their changes are not in the snapshot. SQLite's backup API is not used for two reasons. It restarts whenever
//! another process writes, or else blocks the writers. It also needs `unsafe` and the connection's handle, which
//! Diesel does not expose.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use diesel::{
    Connection as _, QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query,
    sql_types::{BigInt, Text},
};
use uuid::Uuid;

use super::{
    Conn,
    copy::tables::{self, Table},
    manager::{ConnectError, Manager},
};
use crate::config::database_url::DatabaseUrl;

/// Error raised when no backup is made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(
        "only the embedded SQLite database can be backed up with this command; back up PostgreSQL with pg_dump or \
         continuous archiving"
    )]
    Postgres,
    #[error("there is no database at {}; set DATABASE_URL (--database-url) to the server's database", .0.display())]
    NoDatabase(PathBuf),
    #[error("{} already exists; name a file that does not exist", .0.display())]
    Exists(PathBuf),
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("cannot copy the database: {0}")]
    Copy(diesel::result::Error),
    #[error("the copy is damaged, and probably the database too: {0}")]
    Damaged(String),
    #[error("cannot write {}: {reason}", path.display())]
    Write { path: PathBuf, reason: io::Error },
}

/// Contents of a backup.
pub struct Backup {
    pub bytes: u64,
    /// Names of the tables, each with its number of rows.
    pub rows: Vec<(String, i64)>,
}

/// Makes the backup. The file appears only when it is complete, checked and synced to the disk.
pub fn run(url: &DatabaseUrl, file: &Path) -> Result<Backup, BackupError> {
    let database = url.sqlite_path().ok_or(BackupError::Postgres)?;
    if !database.exists() {
        return Err(BackupError::NoDatabase(database.to_owned()));
    }
    let failed = |reason: io::Error| BackupError::Write {
        path: file.to_owned(),
        reason,
    };
    let not_created = |reason: io::Error| match reason.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
        _ => failed(reason),
    };
    require_absent(file).map_err(not_created)?;
    let partial = Partial::create(file).map_err(failed)?;
    let name = partial
        .0
        .to_str()
        .ok_or_else(|| failed(io::Error::other("the path is not UTF-8")))?;
    copy(url, name)?;
    let rows = check(name)?;
    // Opened only after SQLite has closed it: closing a file drops all locks that this process has on it, including
    // SQLite's.
    let copied = File::open(&partial.0).map_err(failed)?;
    copied.sync_all().map_err(failed)?;
    let bytes = copied.metadata().map_err(failed)?.len();
    let folder = partial.0.parent().map(Path::to_owned);
    partial.publish(file).map_err(not_created)?;
    if let Some(folder) = folder {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
    }
    Ok(Backup { bytes, rows })
}

fn copy(url: &DatabaseUrl, into: &str) -> Result<(), BackupError> {
    let mut conn = Manager::new(url.clone(), None).open()?;
    let copy = sql_query("VACUUM INTO ?").bind::<Text, _>(into);
    match &mut conn {
        Conn::Sqlite(conn) => copy.execute(conn).map(drop).map_err(BackupError::Copy),
        Conn::Postgres(_) => Err(BackupError::Postgres),
    }
}

/// Checks the copy with SQLite's integrity check, and counts the rows of its tables.
fn check(name: &str) -> Result<Vec<(String, i64)>, BackupError> {
    let damaged = |reason: &dyn ToString| BackupError::Damaged(reason.to_string());
    let mut conn = SqliteConnection::establish(name).map_err(|error| damaged(&error))?;
    let findings = findings(&mut conn).map_err(|error| damaged(&error))?;
    if let Some(finding) = findings.into_iter().next() {
        return Err(damaged(&finding));
    }
    let mut conn = Conn::Sqlite(conn);
    let tables = tables::all(&mut conn).map_err(|error| damaged(&error))?;
    let count = |table: Table| {
        let rows = tables::count(&mut conn, &table.name)?;
        Ok((table.name, rows))
    };
    let counted: QueryResult<_> = tables.into_iter().map(count).collect();
    counted.map_err(|error| damaged(&error))
}

fn findings(conn: &mut SqliteConnection) -> QueryResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Finding {
        #[diesel(sql_type = Text)]
        integrity_check: String,
    }
    #[derive(QueryableByName)]
    struct Orphans {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let found: Vec<Finding> = sql_query("PRAGMA integrity_check").load(conn)?;
    let mut findings: Vec<_> = found
        .into_iter()
        .map(|finding| finding.integrity_check)
        .filter(|finding| finding != "ok")
        .collect();
    let orphans: Orphans =
        sql_query("SELECT count(*) AS count FROM pragma_foreign_key_check").get_result(conn)?;
    if orphans.count > 0 {
        findings.push(format!(
            "{} rows refer to rows that do not exist",
            orphans.count
        ));
    }
    Ok(findings)
}

/// Temporary file beside the backup. It is removed unless it becomes the backup.
struct Partial(PathBuf);

impl Partial {
    /// Creates the file, readable only by its owner, and empty, as `VACUUM INTO` requires.
    fn create(file: &Path) -> io::Result<Self> {
        // An absolute path: SQLite would parse a name that begins with `file:` as a URI.
        let mut path = std::path::absolute(file)?.into_os_string();
        path.push(format!(".{}.partial", Uuid::new_v4().simple()));
        let path = PathBuf::from(path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self(path))
    }

    /// Gives the file its final name, unless a file of that name exists by now.
    fn publish(self, file: &Path) -> io::Result<()> {
        match fs::hard_link(&self.0, file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // Some file systems have no hard links. There the check and the rename are two steps, not atomic.
                require_absent(file)?;
                fs::rename(&self.0, file)
            }
            linked => linked,
        }
    }
}

fn require_absent(file: &Path) -> io::Result<()> {
    match fs::symlink_metadata(file) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // On success the backup has its own name by now.
        let _ = fs::remove_file(&self.0);
        let mut journal = self.0.clone().into_os_string();
        journal.push("-journal");
        let _ = fs::remove_file(journal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_created_during_the_backup_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("backup.db");
        Partial::create(&file)
            .and_then(|partial| partial.publish(&file))
            .expect("the name is free");
        fs::write(&file, "other content").expect("the file is writable");
        let partial = Partial::create(&file).expect("the folder is writable");
        let error = partial.publish(&file).expect_err("the name is taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let content = fs::read_to_string(&file).expect("the file is readable");
        assert_eq!(content, "other content");
        let entries = fs::read_dir(folder.path()).expect("the folder is readable");
        assert_eq!(entries.count(), 1);
    }
}
