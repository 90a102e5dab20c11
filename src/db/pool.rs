//! Pool of database connections. All queries of the service go through [`Db`].

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as QueryError},
};
use opentelemetry::{KeyValue, trace::SpanKind};
use parking_lot::Mutex;
use r2d2::{Pool, PooledConnection};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Aborted, Conn, WriteFailure, deadline,
    embedded::EmbeddedFile,
    manager::{ConnectError, LogErrors, Manager, ping},
    slow_wait::log_while_waiting,
    write_proof::WriteProof,
};
use crate::{
    config::DatabaseConfig,
    domain::error::Error,
    telemetry::traces,
    wait_queue::{WaitQueue, WaitQueueUsage},
};

/// Maximum number of requests that wait for a connection. Further requests get 503 at once.
const MAX_WAITING: usize = 1024;

/// Share of the pool's timeout that one query may take.
///
/// No query starts when less time is left. So a write whose response is 503 has usually not been committed.
const QUERY_SHARE: f32 = 0.4;

/// Maximum time between two attempts to connect while the database is unreachable.
///
/// r2d2 retries after at most half of its `connection_timeout`. Check-outs pass their own timeout instead.
const RECONNECT_WITHIN: Duration = Duration::from_millis(500);
/// Time limit of a background write, which no request waits for.
const BACKGROUND_WRITE: Duration = Duration::from_secs(60);

/// Pool of database connections. Clones share it.
#[derive(Clone)]
pub struct Db {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pool: Pool<Manager>,
    /// Wait queue with one permit per connection.
    connections: WaitQueue,
    /// Wait queue with a single permit for writes to SQLite. `None` on PostgreSQL.
    ///
    /// SQLite allows one writer at a time and does not serve waiting writers in order.
    writers: Option<WaitQueue>,
    timeout: Duration,
    query_timeout: Duration,
    /// Time of the last response of the database. `None` if an access has failed since.
    responded: Mutex<Option<Instant>>,
    pub(super) changes: WriteProof,
    /// Files of the embedded database. `None` on PostgreSQL, and in a pool that was opened without them.
    pub(super) embedded: Option<Arc<EmbeddedFile>>,
    /// Value of the span attribute `db.system.name`.
    system: &'static str,
}

/// Usage of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolUsage {
    /// Maximum number of connections.
    pub size: u32,
    /// Number of connections that are checked out.
    pub in_use: u32,
    pub idle: u32,
    /// Wait queue for connections.
    pub connections: WaitQueueUsage,
    /// Wait queue for writes. `None` on PostgreSQL, which allows concurrent writes.
    pub writers: Option<WaitQueueUsage>,
}

impl Db {
    /// Opens the pool, and makes sure that the database accepts a connection.
    pub fn open(config: &DatabaseConfig) -> Result<Self, ConnectError> {
        let path = config.url.sqlite_path();
        let embedded = path.map(EmbeddedFile::open).transpose()?;
        let manager = Manager::new(config.url.clone(), Some(query_timeout(config)));
        let manager = manager.restricted_to(embedded.clone());
        // The pool opens connections in the background and only logs errors. Opening one here lets the start fail
        // with the reason.
        let opened = log_while_waiting("the database to accept a connection", || manager.open());
        drop(opened?);
        Ok(Self::with(config, embedded))
    }

    /// Opens the pool without connecting. For callers that also run while the database is unreachable.
    pub fn open_without_connecting(config: &DatabaseConfig) -> Self {
        Self::with(config, None)
    }

    /// Builds a pool on the configured database, limited to these files of the embedded one.
    pub(super) fn with(config: &DatabaseConfig, embedded: Option<Arc<EmbeddedFile>>) -> Self {
        let query_timeout = query_timeout(config);
        let manager =
            Manager::new(config.url.clone(), Some(query_timeout)).restricted_to(embedded.clone());
        let sqlite = config.url.sqlite_path().is_some();
        let wait_queue = |resource, permits| WaitQueue::new(resource, permits, MAX_WAITING);
        let pool = Pool::builder()
            .max_size(config.pool_size)
            .min_idle(Some(1))
            .connection_timeout(2 * RECONNECT_WITHIN)
            .test_on_check_out(true)
            .error_handler(Box::new(LogErrors))
            .build_unchecked(manager);
        Self {
            shared: Arc::new(Shared {
                pool,
                connections: wait_queue("a database connection", config.pool_size as usize),
                writers: sqlite.then(|| wait_queue("the database's write permit", 1)),
                timeout: config.timeout,
                query_timeout,
                responded: Mutex::default(),
                changes: WriteProof::default(),
                embedded,
                system: if sqlite { "sqlite" } else { "postgresql" },
            }),
        }
    }

    /// Runs queries that change nothing. Repeats them on another connection if the first one was lost.
    ///
    /// Returns within the pool's time limit, with [`Error::Unavailable`] if the database did not respond.
    pub async fn read<T: Send + 'static>(
        &self,
        queries: impl Fn(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, Error> {
        let deadlines = self.deadlines();
        let read = self.on_thread(deadlines, None, move |shared| {
            let attempt = || {
                let mut pooled = shared.check_out(deadlines)?;
                let result = queries(&mut pooled.conn).map_err(Aborted::from);
                shared.record_outcome(&mut pooled, result)
            };
            attempt().or_else(|failure| {
                if !failure.is_lost || Instant::now() >= deadlines.start_by {
                    return Err(failure);
                }
                tracing::debug!(
                    cause = failure.error.cause(),
                    "lost a database connection; repeating the read on another one"
                );
                attempt()
            })
        });
        self.traced("database read", self.within_deadline(deadlines, read))
            .await
    }

    /// Makes changes in one transaction: all of them, or none.
    ///
    /// Returns within the pool's time limit, with [`Error::Unavailable`] if the database did not respond. The
    /// changes may have been committed even so, if only the response came too late.
    pub async fn write<T: Send + 'static>(
        &self,
        changes: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        self.with_writer(|conn| conn.write(changes)).await
    }

    /// Makes changes that no request waits for, in one transaction, with a time limit of one minute.
    ///
    /// A large batch that is cut off at a request's time limit on each attempt would never be written.
    pub async fn write_in_background<T: Send + 'static>(
        &self,
        changes: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let deadlines = Deadlines {
            end_by: Instant::now() + BACKGROUND_WRITE,
            ..self.deadlines()
        };
        self.with_writer_within(deadlines, |conn| conn.write(changes))
            .await
    }

    /// Runs work that writes with [`Conn::write`], on a connection with permission to write.
    ///
    /// The work continues when the caller no longer waits for it, until the pool's time limit.
    pub async fn with_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        self.with_writer_within(self.deadlines(), work).await
    }

    async fn with_writer_within<T: Send + 'static>(
        &self,
        deadlines: Deadlines,
        work: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let write = async {
            let writer = self.writer(deadlines).await?;
            self.on_connection(deadlines, writer, recording_outcome(self, work))
                .await
        };
        self.traced("database write", self.within_deadline(deadlines, write))
            .await
    }

    pub(super) async fn writer(
        &self,
        deadlines: Deadlines,
    ) -> Result<Option<Arc<OwnedSemaphorePermit>>, Error> {
        match &self.shared.writers {
            Some(writers) => Ok(Some(Arc::new(writers.take(deadlines.start_by).await?))),
            None => Ok(None),
        }
    }

    /// Runs work that changes the database, while holding `writer`.
    pub(super) async fn on_connection<T: Send + 'static>(
        &self,
        deadlines: Deadlines,
        writer: Option<Arc<OwnedSemaphorePermit>>,
        work: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let work = move |shared: &Shared| {
            let mut pooled = shared.check_out(deadlines)?;
            let result = work(&mut pooled.conn);
            let done = shared.record_outcome(&mut pooled, result)?;
            // A change to a file that is no longer at its path would be lost at the next start.
            shared.require_files()?;
            Ok(done)
        };
        self.on_thread(deadlines, writer, work).await
    }

    pub(super) async fn traced<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let system = || KeyValue::new("db.system.name", self.shared.system);
        traces::in_span(SpanKind::Client, name, system, work).await
    }

    /// Returns the current usage of the pool.
    pub fn usage(&self) -> PoolUsage {
        let Shared {
            pool,
            connections,
            writers,
            ..
        } = &*self.shared;
        let state = pool.state();
        PoolUsage {
            size: pool.max_size(),
            in_use: state.connections.saturating_sub(state.idle_connections),
            idle: state.idle_connections,
            connections: connections.usage(),
            writers: writers.as_ref().map(WaitQueue::usage),
        }
    }

    /// Returns whether the database has responded within `period`, with no failed access since.
    pub fn has_responded_within(&self, period: Duration) -> bool {
        let at = *self.shared.responded.lock();
        at.is_some_and(|at| at.elapsed() < period)
    }

    /// Fails if the database does not respond.
    pub async fn ping(&self) -> Result<(), Error> {
        self.read(ping).await.map(drop)
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        let end_by = Instant::now() + self.shared.timeout;
        Deadlines {
            start_by: end_by - self.shared.query_timeout,
            end_by,
        }
    }

    pub(super) async fn within_deadline<T>(
        &self,
        deadlines: Deadlines,
        result: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::time::timeout_at(deadlines.end_by.into(), result)
            .await
            .map_err(|_| unavailable("the database did not respond in time"))?
    }

    /// Runs work with a connection on a thread where blocking is allowed.
    ///
    /// The permits are held until the work has ended, also if the caller no longer waits for it.
    async fn on_thread<T: Send + 'static>(
        &self,
        deadlines: Deadlines,
        writer: Option<Arc<OwnedSemaphorePermit>>,
        work: impl FnOnce(&Shared) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let connection = shared.connections.take(deadlines.start_by).await?;
        tokio::task::spawn_blocking(move || {
            let _permits = (writer, connection);
            deadline::until(deadlines.end_by, || work(&shared))
        })
        .await
        .map_err(|_| Error::Internal("a database thread panicked".into()))?
        .map_err(|failure| failure.error)
    }
}

/// Deadlines by which an access to the database must start and end.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    start_by: Instant,
    end_by: Instant,
}

/// Failed access to the database.
struct Failure {
    error: Error,
    /// True if the connection was lost. The access may succeed on another one.
    is_lost: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            is_lost: false,
        }
    }
}

impl Shared {
    fn check_out(&self, deadlines: Deadlines) -> Result<PooledConnection<Manager>, Error> {
        self.require_files()?;
        let left = deadlines.start_by.saturating_duration_since(Instant::now());
        let pooled = self.pool.get_timeout(left).map_err(|error| {
            self.record_response(false);
            unavailable(error.to_string())
        })?;
        if Instant::now() > deadlines.start_by {
            return Err(unavailable("no database connection was free in time"));
        }
        Ok(pooled)
    }

    /// Records from the result whether the database responded and whether the connection may be broken.
    fn record_outcome<T>(
        &self,
        pooled: &mut PooledConnection<Manager>,
        result: Result<T, Aborted>,
    ) -> Result<T, Failure> {
        let (mut is_lost, mut is_read_only) = (false, false);
        let result = result.map_err(|aborted| match aborted {
            Aborted::Rejected(error) => error,
            Aborted::Query(error) => {
                is_lost = is_lost_connection(&error);
                is_read_only = WriteFailure::of(&error) == Some(WriteFailure::ReadOnly);
                let error = classify(error);
                pooled.doubtful = matches!(error, Error::Unavailable(_));
                error
            }
        });
        // A read-only error is a response. The connection is replaced even so: a session may stay read-only after
        // the server has become writable.
        let has_responded = is_read_only && self.embedded.is_none();
        self.record_response(!pooled.doubtful || has_responded);
        result.map_err(|error| Failure { error, is_lost })
    }

    /// Requires that the embedded database's files are where they were when they were opened.
    fn require_files(&self) -> Result<(), Error> {
        let required = self.embedded.as_ref().map_or(Ok(()), |file| file.require());
        required.inspect_err(|_| self.record_response(false))
    }

    fn record_response(&self, has_responded: bool) {
        let mut at = self.responded.lock();
        *at = has_responded.then(Instant::now);
    }
}

/// Wraps a change so that its outcome is recorded in the pool's [`WriteProof`].
pub(super) fn recording_outcome<T, W: FnOnce(&mut Conn) -> Result<T, Aborted>>(
    db: &Db,
    work: W,
) -> impl FnOnce(&mut Conn) -> Result<T, Aborted> + use<T, W> {
    let shared = db.shared.clone();
    move |conn| shared.changes.record(work(conn))
}

fn query_timeout(config: &DatabaseConfig) -> Duration {
    config.timeout.mul_f32(QUERY_SHARE)
}

fn is_lost_connection(error: &QueryError) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    matches!(
        error,
        QueryError::DatabaseError(ClosedConnection | UnableToSendCommand, _)
    )
}

/// Maps a failed query to an error of the service.
///
/// Services handle the constraint violations that a user can cause before this. Other violations, and rows that
/// cannot be read, are bugs of the service: [`Error::Internal`]. All other errors mean that the database cannot
/// respond, because it is unreachable, restarting, out of space, locked or too slow: [`Error::Unavailable`].
fn classify(error: QueryError) -> Error {
    use DatabaseErrorKind as Kind;
    match &error {
        QueryError::DatabaseError(
            Kind::UniqueViolation
            | Kind::ForeignKeyViolation
            | Kind::NotNullViolation
            | Kind::CheckViolation
            | Kind::RestrictViolation
            | Kind::ExclusionViolation,
            _,
        ) => Error::internal(error),
        QueryError::DatabaseError(..)
        | QueryError::BrokenTransactionManager
        | QueryError::RollbackErrorOnCommit { .. } => unavailable(error.to_string()),
        _ => Error::internal(error),
    }
}

fn unavailable(cause: impl Into<Cow<'static, str>>) -> Error {
    Error::Unavailable(cause.into())
}
