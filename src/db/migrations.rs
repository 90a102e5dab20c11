//! Brings a database to the state that this version needs, once, however many start at the same time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::LoadConnection,
    migration::MigrationSource,
    query_builder::SqlQuery,
    query_dsl::LoadQuery,
    sql_query,
    sql_types::{Bool, Text},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    Conn,
    manager::{ConnectError, Manager},
    postgres::{PoolerError, refuse_transaction_pooler},
    writable::require_writable,
};
use crate::core::{database_url::DatabaseUrl, slow_wait::announced};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Any number that nobody else in the same PostgreSQL database locks: "latchkey" in ASCII.
const ADVISORY_LOCK: i64 = 0x6c61_7463_686b_6579;

/// The time to wait for another process that runs migrations, and how often to ask for its lock.
const LOCK_WITHIN: Duration = Duration::from_secs(3600);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The time that PostgreSQL may take for a statement that is no migration.
const STATEMENT_WITHIN: Duration = Duration::from_secs(10);
/// The time that it may take for one of a migration.
const MIGRATION_WITHIN: Duration = Duration::from_secs(3600);

/// Why the database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Pooler(PoolerError),
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

impl From<PoolerError> for MigrateError {
    fn from(error: PoolerError) -> Self {
        match error {
            PoolerError::Connect(error) => Self::Connect(error),
            PoolerError::Query(error) => Self::from(error),
            error @ PoolerError::TransactionMode => Self::Pooler(error),
        }
    }
}

impl MigrateError {
    /// Returns whether another `DATABASE_URL` is the remedy.
    pub fn is_about_the_url(&self) -> bool {
        match self {
            Self::Connect(ConnectError::Url | ConnectError::Parameter(_)) | Self::Pooler(_) => true,
            Self::Connect(_) | Self::Lock(_) | Self::Migration(_) | Self::Encoding(_) => false,
        }
    }
}

/// A row of one text.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    text: String,
}

/// A row of one truth value.
#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Runs the migrations that are missing and returns their names. Blocks until no other process runs
/// any.
pub fn run(url: &DatabaseUrl) -> Result<Vec<String>, MigrateError> {
    let manager = Manager::new(url.clone(), None);
    let _lock = url.sqlite_path().map(lock_beside).transpose()?;
    let opened = announced("the database to take a connection", || {
        manager.open_or_create()
    });
    let (conn, watch) = opened?;
    match conn {
        Conn::Sqlite(mut conn) => migrate(|| run_pending(&mut conn, SQLITE)),
        Conn::Postgres(mut conn) => {
            let limit = |limit| watch.iter().for_each(|watch| watch.limit_statements(limit));
            limit(STATEMENT_WITHIN);
            require_utf8(&mut conn)?;
            if let Some(url) = url.postgres() {
                refuse_transaction_pooler(url, &mut conn)?;
            }
            announced("another instance to finish its migrations", || {
                take_advisory_lock(&mut conn)
            })?;
            limit(MIGRATION_WITHIN);
            migrate(|| run_pending(&mut conn, POSTGRES))
        }
    }
}

fn migrate(
    run: impl FnOnce() -> Result<Vec<String>, MigrateError>,
) -> Result<Vec<String>, MigrateError> {
    announced("the migrations of the database", run)
}

/// Takes the lock until the connection ends.
fn take_advisory_lock(conn: &mut PgConnection) -> Result<(), MigrateError> {
    let lock = format!("SELECT pg_try_advisory_lock({ADVISORY_LOCK}) AS locked");
    let give_up_at = Instant::now() + LOCK_WITHIN;
    loop {
        let Locked { locked } = sql_query(&lock).get_result(conn)?;
        if locked {
            return Ok(());
        }
        wait_for_lock(give_up_at)?;
    }
}

/// Waits before a lock is asked for again.
fn wait_for_lock(give_up_at: Instant) -> io::Result<()> {
    if Instant::now() >= give_up_at {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "another process holds the lock on migrations for over an hour",
        ));
    }
    thread::sleep(ASK_AGAIN_AFTER);
    Ok(())
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
    let give_up_at = Instant::now() + LOCK_WITHIN;
    announced("another process to release the lock", || {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => wait_for_lock(give_up_at)?,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    })?;
    Ok(file)
}
