//! How the pool opens a connection, and when it trusts one that it has.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, PgConnection, QueryResult, RunQueryDsl as _,
    connection::{SimpleConnection as _, TransactionManager as _},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Conn,
    embedded::{EmbeddedFile, open_existing, settle},
    writable::is_writable,
};
use crate::core::database_url::DatabaseUrl;

/// A connection that was in use this recently is lent without asking the server whether it is alive:
/// under load that would be a second round trip for each request.
const TRUSTED_FOR: Duration = Duration::from_millis(500);

/// How long a command that has no timeout waits for a lock on the embedded database.
const NO_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens connections to one database.
#[derive(Debug)]
pub(super) struct Manager {
    url: DatabaseUrl,
    /// The files that each connection has to open, if others have opened them.
    embedded: Option<Arc<EmbeddedFile>>,
    /// How long to wait for a connection, a lock or an answer. `None`: as long as it takes.
    timeout: Option<Duration>,
    /// When a connection last turned out to be broken. Others may be, from the same cause.
    last_broken: Mutex<Option<Instant>>,
}

/// A connection in the pool.
pub(super) struct Pooled {
    pub conn: Conn,
    /// Set when a query failed in a way that leaves the connection in doubt.
    pub doubtful: bool,
    last_used: Instant,
    /// How many times the embedded database's files had been lost when it was opened.
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
    #[error("cannot open {}: {reason}", path.display())]
    Sqlite { path: PathBuf, reason: String },
    #[error("cannot connect to PostgreSQL: {0}")]
    Postgres(String),
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

impl Manager {
    pub(super) fn new(url: DatabaseUrl, timeout: Option<Duration>) -> Self {
        Self {
            url,
            embedded: None,
            timeout,
            last_broken: Mutex::default(),
        }
    }

    /// The same for connections to files that stay open, and for these alone.
    pub(super) fn to(self, embedded: Option<Arc<EmbeddedFile>>) -> Self {
        Self { embedded, ..self }
    }

    /// Whether a connection that was in use at this time needs no look at it.
    fn trusts(&self, last_used: Instant) -> bool {
        let last_broken = self.last_broken.lock();
        let last_broken = *last_broken.unwrap_or_else(PoisonError::into_inner);
        last_used.elapsed() < TRUSTED_FOR && last_broken.is_none_or(|at| at < last_used)
    }

    /// Opens a connection with all its settings. An embedded database has to be there.
    pub(super) fn open(&self) -> Result<Conn, ConnectError> {
        let (path, timeout) = match &self.url {
            DatabaseUrl::Sqlite(path) => (path, self.timeout.unwrap_or(NO_TIMEOUT)),
            DatabaseUrl::Postgres(uri) => {
                return open_postgres(uri, self.timeout).map(Conn::Postgres);
            }
        };
        let conn = match &self.embedded {
            Some(file) => open_existing(path, timeout, || file.require()),
            None => {
                settle(path).map_err(|error| ConnectError::sqlite(path, &error))?;
                open_existing(path, timeout, || Ok(()))
            }
        };
        conn.map(Conn::Sqlite)
    }

    /// The same where an embedded database is made if it is missing, with its folder.
    pub(super) fn open_or_create(&self) -> Result<Conn, ConnectError> {
        if let Some(path) = self.url.sqlite_path() {
            settle(path).map_err(|error| ConnectError::sqlite(path, &error))?;
            make_private(path).map_err(|error| ConnectError::sqlite(path, &error))?;
        }
        self.open()
    }

    /// Requires of a connection to the embedded database that it is one to the files as they are now.
    fn require_current(&self, pooled: &Pooled) -> Result<(), ConnectError> {
        let (Some(path), Some(file)) = (self.url.sqlite_path(), &self.embedded) else {
            return Ok(());
        };
        if pooled.losses != file.losses() {
            return Err(ConnectError::sqlite(path, &"it was lost meanwhile"));
        }
        match pooled.reads_only && is_writable(path) {
            true => Err(ConnectError::sqlite(path, &"it could not be written")),
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
        Ok(Pooled {
            conn: self.open()?,
            doubtful: false,
            last_used: Instant::now(),
            losses,
            reads_only,
        })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), ConnectError> {
        if matches!(pooled.conn, Conn::Sqlite(_)) {
            return self.require_current(pooled);
        }
        if self.trusts(pooled.last_used) {
            return Ok(());
        }
        ping(&mut pooled.conn)
            .map(drop)
            .map_err(|_| ConnectError::Postgres("a connection had been lost".to_owned()))
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        pooled.last_used = Instant::now();
        let broken =
            pooled.doubtful || std::thread::panicking() || is_inside_transaction(&mut pooled.conn);
        if broken {
            let last_broken = self.last_broken.lock();
            *last_broken.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        broken
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

fn open_postgres(
    uri: &SecretString,
    timeout: Option<Duration>,
) -> Result<PgConnection, ConnectError> {
    let uri = postgres_uri(uri, timeout);
    let mut conn = PgConnection::establish(uri.expose_secret())
        .map_err(|error| ConnectError::postgres(&error.to_string()))?;
    if let Some(timeout) = timeout {
        let millis = timeout.as_millis();
        // Who stands still amid a transaction holds locks: PostgreSQL ends it then.
        conn.batch_execute(&format!(
            "SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis}"
        ))
        .map_err(|error| ConnectError::Postgres(error.to_string()))?;
    }
    Ok(conn)
}

/// With what every connection of ours asks of the network.
pub(super) fn postgres_uri(uri: &SecretString, timeout: Option<Duration>) -> SecretString {
    let seconds = timeout
        .map_or(10, |timeout| timeout.as_secs().max(2))
        .to_string();
    let parameters = [
        ("connect_timeout", seconds.as_str()),
        ("application_name", "latchkey"),
        // Of several hosts the primary: a standby may not know yet what was revoked.
        ("target_session_attrs", "read-write"),
        // An idle connection that a firewall dropped is found out after a minute, not two hours.
        ("keepalives_idle", "30"),
        ("keepalives_interval", "10"),
        ("keepalives_count", "3"),
        // One that a network swallows while a query is under way, after ten seconds.
        ("tcp_user_timeout", "10000"),
    ];
    DatabaseUrl::postgres_uri_with(uri, &parameters)
}
