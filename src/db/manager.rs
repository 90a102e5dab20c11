//! Opens connections for the pool, and decides when a pooled connection is checked or replaced.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    QueryResult, RunQueryDsl as _, SqliteConnection, connection::TransactionManager as _,
};
use parking_lot::{Mutex, MutexGuard};

use super::{
    Conn, deadline,
    embedded::{EmbeddedFile, open_existing, require_own_log},
    postgres::{self, Hang, WaitLimit, Watch},
    writable::is_writable,
};
use crate::config::database_url::DatabaseUrl;

/// Time after its last use in which a connection is checked out without a ping.
///
/// Under load a ping would be a second round trip for each request.
const TRUSTED_FOR: Duration = Duration::from_millis(500);

/// Time limit for the ping of an idle connection.
const CHECK_WITHIN: Duration = Duration::from_secs(1);

/// Time that a command without a timeout waits for a lock on the embedded database.
const NO_TIMEOUT: Duration = Duration::from_secs(60);

/// Opener of connections to one database.
#[derive(Debug)]
pub(super) struct Manager {
    url: DatabaseUrl,
    /// Files that each connection must open, if the embedded database is already open.
    embedded: Option<Arc<EmbeddedFile>>,
    /// Time limit for a connection, a lock or a response. `None` for the long limits of maintenance commands.
    timeout: Option<Duration>,
    lost: Mutex<Lost>,
}

/// Times of the latest losses of connections.
#[derive(Debug, Default, Clone, Copy)]
struct Lost {
    /// Time at which a connection was found broken. Others may be broken by the same cause, so they are checked.
    broken: Option<Instant>,
    /// Time at which the wait for a response that exceeded its limit began.
    ///
    /// A connection that was not used since probably takes the same network path. A ping of it would hang as
    /// long, so it is replaced without one.
    hung: Option<Instant>,
}

/// Connection in the pool.
pub(super) struct Pooled {
    pub conn: Conn,
    /// True if a query failed in a way that may have broken the connection.
    pub doubtful: bool,
    last_used: Instant,
    /// Time limit of its waits. `None` on SQLite.
    watch: Option<Arc<Watch>>,
    /// Number of times that the embedded database's files had been lost when the connection was opened.
    losses: u64,
    /// True if the embedded database was not writable when the connection was opened. SQLite keeps such a
    /// connection read-only for ever.
    reads_only: bool,
}

/// Error raised when no connection can be opened. Shows no part of the URL that may be a password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is one that libpq cannot parse.
    #[error("is not a valid PostgreSQL URL; expected the form `postgres://user@host/database`")]
    Url,
    /// The URL has a parameter that libpq does not support, such as one of another client library.
    #[error(
        "has the parameter `{0}`, which libpq does not support; leave it out (to choose a schema, use \
         `options=-csearch_path%3DNAME`)"
    )]
    Parameter(String),
    #[error("cannot open {}: {reason}", path.display())]
    Sqlite { path: PathBuf, reason: String },
    #[error("cannot connect to PostgreSQL: {0}")]
    Postgres(String),
    /// An idle connection was lost and is replaced.
    #[error("a database connection was lost")]
    Lost,
}

impl ConnectError {
    pub(super) fn sqlite(path: &Path, reason: &dyn ToString) -> Self {
        Self::Sqlite {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Converts a message of libpq, joining its lines.
    ///
    /// Messages about a connection name host, port, user and database. A message about a URL that libpq cannot
    /// parse repeats the whole URL, and with it the password, so its text is dropped.
    pub(super) fn postgres(reason: &str) -> Self {
        let words: Vec<_> = reason.split_whitespace().collect();
        let reason = words.join(" ");
        if let Some(name) = unknown_parameter(&reason) {
            return Self::Parameter(name.to_owned());
        }
        let connection_errors = [
            "connection to server",
            "could not translate host name",
            "invalid sslmode value",
            "server closed the connection",
        ];
        if connection_errors
            .iter()
            .any(|start| reason.starts_with(start))
        {
            Self::Postgres(reason)
        } else {
            Self::Url
        }
    }
}

/// Returns the URI parameter that libpq rejects. `None` if the name may be part of a password that is not encoded.
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
            embedded: None,
            timeout,
            lost: Mutex::default(),
        }
    }

    /// Limits the manager to connections to these open files.
    pub(super) fn restricted_to(self, embedded: Option<Arc<EmbeddedFile>>) -> Self {
        Self { embedded, ..self }
    }

    /// Returns whether a connection last used at this time needs no ping.
    fn trusts(&self, last_used: Instant) -> bool {
        let broken = self.lost().broken;
        last_used.elapsed() < TRUSTED_FOR && broken.is_none_or(|at| at < last_used)
    }

    fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock()
    }

    /// Opens a connection with all its settings. An embedded database must exist.
    pub(super) fn open(&self) -> Result<Conn, ConnectError> {
        self.open_watched().map(|(conn, _)| conn)
    }

    /// Opens a connection with all its settings, and returns its [`Watch`] too. `None` on SQLite.
    pub(super) fn open_watched(&self) -> Result<(Conn, Option<Arc<Watch>>), ConnectError> {
        match &self.url {
            DatabaseUrl::Sqlite(path) => Ok((Conn::Sqlite(self.open_embedded(path)?), None)),
            DatabaseUrl::Postgres(url) => {
                let wait_limit = self
                    .timeout
                    .map_or_else(WaitLimit::of_maintenance, WaitLimit::of_requests);
                let (conn, watch) = postgres::open(url, wait_limit)?;
                Ok((Conn::Postgres(conn), Some(watch)))
            }
        }
    }

    fn open_embedded(&self, path: &Path) -> Result<SqliteConnection, ConnectError> {
        let timeout = self.timeout.unwrap_or(NO_TIMEOUT);
        match &self.embedded {
            Some(file) => open_existing(path, timeout, || file.require()),
            None => {
                require_own_log(path).map_err(|error| ConnectError::sqlite(path, &error))?;
                open_existing(path, timeout, || Ok(()))
            }
        }
    }

    /// Opens a connection. Creates an embedded database and its folder if they are missing.
    pub(super) fn open_or_create(&self) -> Result<(Conn, Option<Arc<Watch>>), ConnectError> {
        if let Some(path) = self.url.sqlite_path() {
            require_own_log(path).map_err(|error| ConnectError::sqlite(path, &error))?;
            create_private(path).map_err(|error| ConnectError::sqlite(path, &error))?;
        }
        self.open_watched()
    }

    /// Fails if a connection to the embedded database was opened before its files were lost or became writable.
    fn require_current(&self, pooled: &Pooled) -> Result<(), ConnectError> {
        let (Some(path), Some(file)) = (self.url.sqlite_path(), &self.embedded) else {
            return Ok(());
        };
        if pooled.losses != file.losses() {
            return Err(ConnectError::Lost);
        }
        if pooled.reads_only && is_writable(path) {
            Err(ConnectError::Lost)
        } else {
            Ok(())
        }
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = ConnectError;

    fn connect(&self) -> Result<Pooled, ConnectError> {
        let losses = self.embedded.as_ref().map_or(0, |file| file.losses());
        let path = self.url.sqlite_path();
        let reads_only = path.is_some_and(|path| !is_writable(path));
        let (conn, watch) = self.open_watched()?;
        Ok(Pooled {
            conn,
            doubtful: false,
            last_used: Instant::now(),
            watch,
            losses,
            reads_only,
        })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), ConnectError> {
        if matches!(pooled.conn, Conn::Sqlite(_)) {
            return self.require_current(pooled);
        }
        if self.lost().hung.is_some_and(|at| pooled.last_used < at) {
            return Err(ConnectError::Lost);
        }
        if self.trusts(pooled.last_used) {
            return Ok(());
        }
        let checked = deadline::until(Instant::now() + CHECK_WITHIN, || ping(&mut pooled.conn));
        self.record_hang(pooled);
        checked.map(drop).map_err(|_| ConnectError::Lost)
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        pooled.last_used = Instant::now();
        let has_hung = self.record_hang(pooled);
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
    /// Records a hang of the connection. Returns whether it was shut down because a response did not come in time.
    fn record_hang(&self, pooled: &Pooled) -> bool {
        let hang = pooled.watch.as_ref().and_then(|watch| watch.hang());
        // A shorter wait ended because its request had no time left. It says nothing about other connections.
        if let Some(Hang { began, lasted }) = hang
            && lasted >= CHECK_WITHIN
        {
            let mut lost = self.lost();
            lost.hung = lost.hung.max(Some(began));
        }
        hang.is_some()
    }
}

/// Logger of the errors that the pool meets in the background.
#[derive(Debug)]
pub(super) struct LogErrors;

impl r2d2::HandleError<ConnectError> for LogErrors {
    fn handle_error(&self, error: ConnectError) {
        match error {
            ConnectError::Lost => tracing::debug!(%error, "replacing a lost database connection"),
            error => tracing::warn!(%error, "failed to open a database connection; trying again"),
        }
    }
}

fn is_inside_transaction(conn: &mut Conn) -> bool {
    <Conn as diesel::Connection>::TransactionManager::is_broken_transaction_manager(conn)
}

/// Makes one round trip to the database.
pub(super) fn ping(conn: &mut Conn) -> QueryResult<usize> {
    diesel::sql_query("SELECT 1").execute(conn)
}

/// Creates the file, readable only by its owner, and its folder, where they are missing.
///
/// The mode protects the password hashes. SQLite gives its `-wal` and `-shm` files the same mode.
///
/// An existing file must not be opened. Closing it would drop every lock that this process has on it (POSIX
/// `fcntl`), including SQLite's, and another process would consider the database unused.
fn create_private(path: &Path) -> io::Result<()> {
    create_folder_of(path)?;
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// Creates the folder of a file if it is missing.
pub(super) fn create_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::create_dir_all(folder),
        _ => Ok(()),
    }
}
