//! Brings a database to the state that this version needs, once, however many start at the same time.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use diesel::{RunQueryDsl as _, backend::Backend};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Conn, manager::Manager};
use crate::core::database_url::DatabaseUrl;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Any number that nobody else in the same PostgreSQL database locks: "latchkey" in ASCII.
const ADVISORY_LOCK: i64 = 0x6c61_7463_686b_6579;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the migrations that are missing and answers their names. Blocks until whoever else is at it
/// has finished.
pub fn run(url: &DatabaseUrl) -> Result<Vec<String>, Failure> {
    let manager = Manager {
        url: url.clone(),
        timeout: None,
    };
    let _lock = url.sqlite_path().map(lock_beside).transpose()?;
    match manager.open()? {
        Conn::Sqlite(mut conn) => run_pending(&mut conn, SQLITE),
        Conn::Postgres(mut conn) => {
            // Ends with the connection.
            diesel::sql_query(format!("SELECT pg_advisory_lock({ADVISORY_LOCK})"))
                .execute(&mut conn)?;
            run_pending(&mut conn, POSTGRES)
        }
    }
}

fn run_pending<DB: Backend>(
    conn: &mut impl MigrationHarness<DB>,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, Failure> {
    let versions = conn.run_pending_migrations(migrations)?;
    Ok(versions.iter().map(ToString::to_string).collect())
}

/// Locks the embedded database against other processes that start; until the file is dropped.
pub(crate) fn lock_beside(database: &Path) -> Result<File, std::io::Error> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    if let Some(folder) = database
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(name)?;
    file.lock()?;
    Ok(file)
}
