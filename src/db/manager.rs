//! How the pool opens a connection, and when it trusts one that it has.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, QueryResult, RunQueryDsl as _, SqliteConnection,
    connection::{SimpleConnection as _, TransactionManager as _},
};

use super::{
    Conn, deadline, interrupt,
    postgres::{self, Patience, Watch},
};
use crate::core::database_url::DatabaseUrl;

/// A connection that was in use this recently is lent without asking the server whether it is alive:
/// under load that would be a second round trip for each request.
const TRUSTED_FOR: Duration = Duration::from_millis(500);

/// How long the check of an idle connection may take.
const CHECK_WITHIN: Duration = Duration::from_secs(1);

/// Opens connections to one database.
#[derive(Debug)]
pub(super) struct Manager {
    url: DatabaseUrl,
    /// How long to wait for a connection, a lock or an answer. `None`: as long as it takes.
    timeout: Option<Duration>,
    lost: Mutex<Lost>,
}

/// The connections that were lost last.
#[derive(Debug, Default, Clone, Copy)]
struct Lost {
    /// When one turned out to be broken. Others may be, from the same cause: they are checked.
    broken: Option<Instant>,
    /// When one began to wait for a response that did not come in time. A connection that was not used
    /// since leads the same way, and checking it would take as long: it is dropped.
    hung: Option<Instant>,
}

/// A connection in the pool.
pub(super) struct Pooled {
    pub conn: Conn,
    /// Set when a query failed in a way that leaves the connection in doubt.
    pub doubtful: bool,
    last_used: Instant,
    /// The time limit of what it waits for, on PostgreSQL.
    watch: Option<Arc<Watch>>,
}

/// Why no connection could be opened. Shows no part of the URL that may be a password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a URL that libpq reads.
    #[error("is not a URL that PostgreSQL's library can read; see `postgres://user@host/database`")]
    Url,
    /// A parameter that other programs have, perhaps.
    #[error(
        "has the parameter `{0}`, which PostgreSQL's library does not know; leave it out (a schema is \
         chosen with `options=-csearch_path%3DNAME`)"
    )]
    Parameter(String),
    #[error("cannot open {}: {reason}", path.display())]
    Sqlite { path: PathBuf, reason: String },
    #[error("cannot connect to PostgreSQL: {0}")]
    Postgres(String),
    /// An idle connection that is replaced.
    #[error("a connection to PostgreSQL was lost")]
    Lost,
}

impl ConnectError {
    fn sqlite(path: &Path, reason: &dyn ToString) -> Self {
        Self::Sqlite {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// libpq's messages have several lines. Those about a connection name host, port, user and
    /// database; what it says of a URL that it cannot read repeats all of it.
    pub(super) fn postgres(reason: &str) -> Self {
        let words: Vec<_> = reason.split_whitespace().collect();
        let reason = words.join(" ");
        if let Some(name) = unknown_parameter(&reason) {
            return Self::Parameter(name.to_owned());
        }
        let about_a_connection = [
            "connection to server",
            "could not translate host name",
            "invalid sslmode value",
            "server closed the connection",
        ];
        match about_a_connection
            .iter()
            .any(|start| reason.starts_with(start))
        {
            true => Self::Postgres(reason),
            false => Self::Url,
        }
    }
}

/// The parameter of a URI that libpq does not know. `None` where the name may be a part of a password
/// that is not encoded.
fn unknown_parameter(reason: &str) -> Option<&str> {
    let (_, rest) = reason.split_once("invalid URI query parameter: \"")?;
    let name = rest.strip_suffix('"')?;
    let is_name = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().all(is_name).then_some(name)
}

impl Manager {
    pub(super) fn new(url: DatabaseUrl, timeout: Option<Duration>) -> Self {
        Self {
            url,
            timeout,
            lost: Mutex::default(),
        }
    }

    /// Whether a connection that was in use at this time needs no look at it.
    fn trusts(&self, last_used: Instant) -> bool {
        let broken = self.lost().broken;
        last_used.elapsed() < TRUSTED_FOR && broken.is_none_or(|at| at < last_used)
    }

    fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection with all its settings.
    pub(super) fn open(&self) -> Result<Conn, ConnectError> {
        self.open_watched().map(|(conn, _)| conn)
    }

    /// The same, with the time limit of what it waits for, on PostgreSQL.
    pub(super) fn open_watched(&self) -> Result<(Conn, Option<Arc<Watch>>), ConnectError> {
        match &self.url {
            DatabaseUrl::Sqlite(path) => Ok((Conn::Sqlite(open_sqlite(path, self.timeout)?), None)),
            DatabaseUrl::Postgres(url) => {
                let patience = self
                    .timeout
                    .map_or_else(Patience::of_maintenance, Patience::of_requests);
                let (conn, watch) = postgres::open(url, patience)?;
                Ok((Conn::Postgres(conn), Some(watch)))
            }
        }
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = ConnectError;

    fn connect(&self) -> Result<Pooled, ConnectError> {
        let (conn, watch) = self.open_watched()?;
        Ok(Pooled {
            conn,
            doubtful: false,
            last_used: Instant::now(),
            watch,
        })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), ConnectError> {
        if matches!(pooled.conn, Conn::Sqlite(_)) {
            return Ok(());
        }
        if self.lost().hung.is_some_and(|at| pooled.last_used < at) {
            return Err(ConnectError::Lost);
        }
        if self.trusts(pooled.last_used) {
            return Ok(());
        }
        let checked = deadline::until(Instant::now() + CHECK_WITHIN, || ping(&mut pooled.conn));
        self.note_hang(pooled);
        checked.map(drop).map_err(|_| ConnectError::Lost)
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        pooled.last_used = Instant::now();
        let has_hung = self.note_hang(pooled);
        let broken = has_hung
            || pooled.doubtful
            || std::thread::panicking()
            || is_inside_transaction(&mut pooled.conn);
        if broken {
            self.lost().broken = Some(Instant::now());
        }
        broken
    }
}

impl Manager {
    /// Whether the connection was given up for want of a response.
    fn note_hang(&self, pooled: &Pooled) -> bool {
        let hung = pooled.watch.as_ref().and_then(|watch| watch.hung_since());
        if hung.is_some() {
            let mut lost = self.lost();
            lost.hung = lost.hung.max(hung);
        }
        hung.is_some()
    }
}

/// Logs what the pool meets in the background.
#[derive(Debug)]
pub(super) struct LogErrors;

impl r2d2::HandleError<ConnectError> for LogErrors {
    fn handle_error(&self, error: ConnectError) {
        match error {
            ConnectError::Lost => tracing::debug!(%error, "replacing a connection"),
            error => tracing::warn!(%error, "failed to open a database connection; trying again"),
        }
    }
}

fn is_inside_transaction(conn: &mut Conn) -> bool {
    <Conn as diesel::Connection>::TransactionManager::is_broken_transaction_manager(conn)
}

/// One round trip.
pub(super) fn ping(conn: &mut Conn) -> QueryResult<usize> {
    diesel::sql_query("SELECT 1").execute(conn)
}

fn open_sqlite(path: &Path, timeout: Option<Duration>) -> Result<SqliteConnection, ConnectError> {
    let failed = |reason: &dyn ToString| ConnectError::sqlite(path, reason);
    interrupt::heed_deadlines();
    make_private(path).map_err(|error| failed(&error))?;
    // A name that begins with `file:` would be read as a URI, and `./` makes it a path.
    let name = match path.to_str() {
        Some(name) if path.is_relative() => format!("./{name}"),
        Some(name) => name.to_owned(),
        None => return Err(failed(&"the path is not UTF-8")),
    };
    let mut conn = SqliteConnection::establish(&name).map_err(|error| failed(&error))?;
    // FULL, because NORMAL can lose a commit when the power fails.
    let busy = timeout.unwrap_or(Duration::from_secs(60)).as_millis();
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {busy};
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;"
    ))
    .map_err(|error| failed(&error))?;
    Ok(conn)
}

/// Makes the file and its folder where they are missing: password hashes are nobody else's to read.
/// SQLite gives its `-wal` and `-shm` files the same mode.
///
/// A file that is there must not be opened: closing it again would drop every lock that this process
/// has on it (POSIX `fcntl`), SQLite's too, and another process would take the database for unused.
fn make_private(path: &Path) -> io::Result<()> {
    make_folder_of(path)?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Makes the folder that a file is to be in.
pub(super) fn make_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::create_dir_all(folder),
        _ => Ok(()),
    }
}
