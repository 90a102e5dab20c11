//! A copy of the embedded database in one file, made while it is served.
//!
//! `VACUUM INTO` reads in one transaction: the copy is the database of one moment, and whoever writes in
//! between neither waits nor shows in it, since the log is kept apart (WAL). SQLite's own backup interface
//! would be the other way: it starts anew whenever another process writes, or else holds the writers up; and
//! it takes the connection's handle, which Diesel keeps, and `unsafe`.

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

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(
        "this is for the embedded database; of PostgreSQL make backups with its own pg_dump, or with \
         continuous archiving"
    )]
    Postgres,
    #[error("there is no database {}; name the server's with DATABASE_URL (--database-url)", .0.display())]
    NoDatabase(PathBuf),
    #[error("{} is there already; name a file that is not", .0.display())]
    Exists(PathBuf),
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("cannot copy the database: {0}")]
    Copy(diesel::result::Error),
    #[error("the copy is damaged, and so probably the database: {0}")]
    Damaged(String),
    #[error("cannot write {}: {reason}", path.display())]
    Write { path: PathBuf, reason: io::Error },
}

/// What a backup holds.
pub struct Backup {
    pub bytes: u64,
    /// Tables and how many rows they have.
    pub rows: Vec<(String, i64)>,
}

/// Makes the backup. The file is there when all of it is, checked and on the disk, or not at all.
pub fn run(url: &DatabaseUrl, file: &Path) -> Result<Backup, BackupError> {
    let database = url.sqlite_path().ok_or(BackupError::Postgres)?;
    if !database.exists() {
        return Err(BackupError::NoDatabase(database.to_owned()));
    }
    let failed = |reason: io::Error| BackupError::Write {
        path: file.to_owned(),
        reason,
    };
    let refused = |reason: io::Error| match reason.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
        _ => failed(reason),
    };
    refuse_existing(file).map_err(refused)?;
    let partial = Partial::make(file).map_err(failed)?;
    let name = partial
        .0
        .to_str()
        .ok_or_else(|| failed(io::Error::other("the path is not UTF-8")))?;
    copy(url, name)?;
    let rows = check(name)?;
    // Only now: closing a file drops all locks that this process has on it, SQLite's too.
    let copied = File::open(&partial.0).map_err(failed)?;
    copied.sync_all().map_err(failed)?;
    let bytes = copied.metadata().map_err(failed)?.len();
    let folder = partial.0.parent().map(Path::to_owned);
    partial.become_file(file).map_err(refused)?;
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

/// Reads all of the copy, as SQLite does to find damage, and counts its rows.
fn check(name: &str) -> Result<Vec<(String, i64)>, BackupError> {
    let damaged = |why: &dyn ToString| BackupError::Damaged(why.to_string());
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
            "{} rows refer to rows that are not there",
            orphans.count
        ));
    }
    Ok(findings)
}

/// A file beside the backup that becomes it, or goes.
struct Partial(PathBuf);

impl Partial {
    /// Empty, which is what `VACUUM INTO` takes, and nobody else's to read.
    fn make(file: &Path) -> io::Result<Self> {
        // A name that begins with `file:` would be read as a URI.
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

    /// Takes this name, if nobody has it by now.
    fn become_file(self, file: &Path) -> io::Result<()> {
        match fs::hard_link(&self.0, file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // There are file systems without links. To look and to rename are two steps.
                refuse_existing(file)?;
                fs::rename(&self.0, file)
            }
            linked => linked,
        }
    }
}

fn refuse_existing(file: &Path) -> io::Result<()> {
    match fs::symlink_metadata(file) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // The backup has a name of its own if all went well.
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
    fn what_has_the_name_by_now_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("backup.db");
        Partial::make(&file)
            .and_then(|partial| partial.become_file(&file))
            .expect("a name that is free");
        fs::write(&file, "somebody else's").expect("to write");
        let partial = Partial::make(&file).expect("a file beside it");
        let error = partial
            .become_file(&file)
            .expect_err("a name that is taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let left = fs::read_to_string(&file).expect("to read");
        assert_eq!(left, "somebody else's");
        let names = fs::read_dir(folder.path()).expect("names");
        assert_eq!(names.count(), 1);
    }
}
