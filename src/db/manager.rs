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
    QueryResult, RunQueryDsl as _, SqliteConnection, connection::TransactionManager as _,
};

use super::{
    Conn, deadline,
    embedded::{EmbeddedFile, open_existing, settle},
    postgres::{self, Hang, Patience, Watch},
    writable::is_writable,
};
use crate::core::database_url::DatabaseUrl;

/// A connection that was in use this recently is lent without asking the server whether it is alive:
/// under load that would be a second round trip for each request.
const TRUSTED_FOR: Duration = Duration::from_millis(500);

/// The time that the check of an idle connection may take.
const CHECK_WITHIN: Duration = Duration::from_secs(1);

/// The time that a command that has no timeout waits for a lock on the embedded database.
const NO_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens connections to one database.
#[derive(Debug)]
pub(super) struct Manager {
    url: DatabaseUrl,
    /// The files that each connection has to open, if others have opened them.
    embedded: Option<Arc<EmbeddedFile>>,
    /// How long to wait for a connection, a lock or an answer. `None`: as long as it takes.
    timeout: Option<Duration>,
    lost: Mutex<Lost>,
}

/// The connections that were lost last.
#[derive(Debug, Default, Clone, Copy)]
struct Lost {
    /// The time when one turned out to be broken. Others may be, from the same cause: they are checked.
    broken: Option<Instant>,
    /// The time when one began to wait for a response that did not come in time. A connection that was not used
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
    /// The number of times that the embedded database's files had been lost when it was opened.
    losses: u64,
    /// Set when the embedded database could not be written when it was opened. SQLite only reads through such a
    /// connection for ever.
    reads_only: bool,
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
            embedded: None,
            timeout,
            lost: Mutex::default(),
        }
    }

    /// Limits the manager to connections to these files, which stay open.
    pub(super) fn to(self, embedded: Option<Arc<EmbeddedFile>>) -> Self {
        Self { embedded, ..self }
    }

    /// Whether a connection that was in use at this time needs no look at it.
    fn trusts(&self, last_used: Instant) -> bool {
        let broken = self.lost().broken;
        last_used.elapsed() < TRUSTED_FOR && broken.is_none_or(|at| at < last_used)
    }

    fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection with all its settings. An embedded database has to be there.
    pub(super) fn open(&self) -> Result<Conn, ConnectError> {
        self.open_watched().map(|(conn, _)| conn)
    }

    /// The same, with the time limit of what it waits for, on PostgreSQL.
    pub(super) fn open_watched(&self) -> Result<(Conn, Option<Arc<Watch>>), ConnectError> {
        match &self.url {
            DatabaseUrl::Sqlite(path) => Ok((Conn::Sqlite(self.open_embedded(path)?), None)),
            DatabaseUrl::Postgres(url) => {
                let patience = self
                    .timeout
                    .map_or_else(Patience::of_maintenance, Patience::of_requests);
                let (conn, watch) = postgres::open(url, patience)?;
                Ok((Conn::Postgres(conn), Some(watch)))
            }
        }
    }

    fn open_embedded(&self, path: &Path) -> Result<SqliteConnection, ConnectError> {
        let timeout = self.timeout.unwrap_or(NO_TIMEOUT);
        match &self.embedded {
            Some(file) => open_existing(path, timeout, || file.require()),
            None => {
                settle(path).map_err(|error| ConnectError::sqlite(path, &error))?;
                open_existing(path, timeout, || Ok(()))
            }
        }
    }

    /// Opens a connection to an embedded database that is made if it is missing, with its folder.
    pub(super) fn open_or_create(&self) -> Result<(Conn, Option<Arc<Watch>>), ConnectError> {
        if let Some(path) = self.url.sqlite_path() {
            settle(path).map_err(|error| ConnectError::sqlite(path, &error))?;
            make_private(path).map_err(|error| ConnectError::sqlite(path, &error))?;
        }
        self.open_watched()
    }

    /// Requires of a connection to the embedded database that it is one to the files as they are now.
    fn require_current(&self, pooled: &Pooled) -> Result<(), ConnectError> {
        let (Some(path), Some(file)) = (self.url.sqlite_path(), &self.embedded) else {
            return Ok(());
        };
        if pooled.losses != file.losses() {
            return Err(ConnectError::Lost);
        }
        match pooled.reads_only && is_writable(path) {
            true => Err(ConnectError::Lost),
            false => Ok(()),
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
    /// Returns whether the connection was given up for want of a response.
    fn note_hang(&self, pooled: &Pooled) -> bool {
        let hang = pooled.watch.as_ref().and_then(|watch| watch.hang());
        // A shorter wait was ended since the request had no time left, and says nothing of the others.
        if let Some(Hang { began, lasted }) = hang
            && lasted >= CHECK_WITHIN
        {
            let mut lost = self.lost();
            lost.hung = lost.hung.max(Some(began));
        }
        hang.is_some()
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
