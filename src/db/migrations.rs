//! Brings a database to the state that this version needs, once, however many start at the same time.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::LoadConnection, migration::MigrationSource, query_builder::SqlQuery,
    query_dsl::LoadQuery, sql_query, sql_types::Text,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    Conn,
    manager::{ConnectError, Manager},
    writable::require_writable,
};
use crate::core::database_url::DatabaseUrl;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Any number that nobody else in the same PostgreSQL database locks: "latchkey" in ASCII.
const ADVISORY_LOCK: i64 = 0x6c61_7463_686b_6579;

/// Why the database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Lock(#[from] io::Error),
    #[error("cannot bring the database up to date: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
    #[error("the database's encoding is {0}; make it anew with ENCODING 'UTF8'")]
    Encoding(String),
}

impl From<diesel::result::Error> for MigrateError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Migration(error.into())
    }
}

/// A row of one text.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    text: String,
}

/// Runs the migrations that are missing and answers their names. Blocks until whoever else is at it
/// has finished.
pub fn run(url: &DatabaseUrl) -> Result<Vec<String>, MigrateError> {
    let manager = Manager::new(url.clone(), None);
    let _lock = url.sqlite_path().map(lock_beside).transpose()?;
    match manager.open_or_create()? {
        Conn::Sqlite(mut conn) => run_pending(&mut conn, SQLITE),
        Conn::Postgres(mut conn) => {
            require_utf8(&mut conn)?;
            // Ends with the connection.
            sql_query(format!("SELECT pg_advisory_lock({ADVISORY_LOCK})")).execute(&mut conn)?;
            run_pending(&mut conn, POSTGRES)
        }
    }
}

/// An embedded database in memory with nothing in it but what migrations put there.
pub(super) fn fresh() -> Result<Conn, MigrateError> {
    let mut conn = SqliteConnection::establish(":memory:")
        .map_err(|error| MigrateError::Migration(error.into()))?;
    run_pending(&mut conn, SQLITE)?;
    Ok(Conn::Sqlite(conn))
}

fn require_utf8(conn: &mut PgConnection) -> Result<(), MigrateError> {
    let encoding = "SELECT current_setting('server_encoding') AS text";
    let Row { text } = sql_query(encoding).get_result(conn)?;
    match text.as_str() {
        "UTF8" => Ok(()),
        _ => Err(MigrateError::Encoding(text)),
    }
}

fn run_pending<C>(conn: &mut C, migrations: EmbeddedMigrations) -> Result<Vec<String>, MigrateError>
where
    C: MigrationHarness<C::Backend> + LoadConnection,
    SqlQuery: for<'q> LoadQuery<'q, C, Row>,
{
    // The harness would begin with CREATE TABLE IF NOT EXISTS, which a role that may not create
    // tables is refused even where the table is there.
    let known = MigrationSource::<C::Backend>::migrations(&migrations);
    let known = known.map_err(MigrateError::Migration)?;
    let applied = "SELECT version AS text FROM __diesel_schema_migrations";
    if let Ok(applied) = sql_query(applied).load::<Row>(conn) {
        let is_applied = |version: String| applied.iter().any(|row| row.text == version);
        if known
            .iter()
            .all(|m| is_applied(m.name().version().to_string()))
        {
            return Ok(Vec::new());
        }
    }
    let versions = conn
        .run_pending_migrations(migrations)
        .map_err(MigrateError::Migration)?;
    Ok(versions.iter().map(ToString::to_string).collect())
}

/// Locks the embedded database against other processes that start; until the file is dropped.
pub(crate) fn lock_beside(database: &Path) -> io::Result<File> {
    require_writable(database).map_err(io::Error::other)?;
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    lock(&name)
        .map_err(|error| io::Error::other(format!("cannot lock {}: {error}", name.display())))
}

fn lock(name: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(name)?;
    file.lock()?;
    Ok(file)
}
