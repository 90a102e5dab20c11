//! The only door to the database.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as QueryError},
};
use opentelemetry::{KeyValue, trace::SpanKind};
use r2d2::{Pool, PooledConnection};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Aborted, Conn, NoChanges, deadline,
    embedded::EmbeddedFile,
    manager::{ConnectError, LogErrors, Manager, ping},
    write_proof::WriteProof,
};
use crate::core::{
    config::DatabaseConfig,
    error::Error,
    slow_wait::announced,
    spans,
    turns::{Queue, Turns},
};

/// Requests that may wait for a connection. Past it they are told 503 at once.
const MAX_WAITING: usize = 1024;

/// Of the time that a request has in all, how much the database has to answer a query. Nothing is
/// begun when less than that is left: whoever is told 503 after a write can mostly count on it not
/// having happened.
const QUERY_SHARE: f32 = 0.4;

/// While the database is away, a connection is tried at least this often. The pool's own timeout is
/// what tells it so, twice as long; each call of ours brings one of its own.
const RECONNECT_WITHIN: Duration = Duration::from_millis(500);
/// The time for a change that no request waits for.
const BACKGROUND_WRITE: Duration = Duration::from_secs(60);

/// A pool of connections. Clones share it.
#[derive(Clone)]
pub struct Db {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pool: Pool<Manager>,
    /// One turn per connection.
    connections: Turns,
    /// One turn for all of them on the embedded database, which lets one write at a time and leaves
    /// to chance which of those who wait is next. `None` on PostgreSQL.
    writers: Option<Turns>,
    timeout: Duration,
    query_timeout: Duration,
    /// When it last answered, unless it has failed since.
    answered: Mutex<Option<Instant>>,
    pub(super) changes: WriteProof,
    /// The files of the embedded database.
    pub(super) embedded: Option<Arc<EmbeddedFile>>,
    /// What it is called in traces.
    system: &'static str,
}

/// How it stands with a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolUse {
    /// Connections at the most.
    pub size: u32,
    /// Connections that are lent.
    pub in_use: u32,
    pub idle: u32,
    /// Those who want one.
    pub connections: Queue,
    /// Those who want to write, where one may at a time.
    pub writers: Option<Queue>,
}

impl Db {
    /// Opens the pool. Its connections are made when they are first needed.
    pub fn open(config: &DatabaseConfig) -> Result<Self, ConnectError> {
        let path = config.url.sqlite_path();
        let embedded = path.map(EmbeddedFile::open).transpose()?;
        let manager = Manager::new(config.url.clone(), Some(query_timeout(config)));
        let manager = manager.to(embedded.clone());
        // The pool opens connections in the background and reports what goes wrong there to the log
        // only. Trying one first brings the reason to whoever starts the service.
        let opened = announced("the database to take a connection", || manager.open());
        drop(opened?);
        Ok(Self::with(config, embedded))
    }

    /// The same for whoever goes on whether or not the database can be reached by now.
    pub fn open_later(config: &DatabaseConfig) -> Self {
        Self::with(config, None)
    }

    /// Another pool to the same database.
    pub(super) fn with(config: &DatabaseConfig, embedded: Option<Arc<EmbeddedFile>>) -> Self {
        let query_timeout = query_timeout(config);
        let manager = Manager::new(config.url.clone(), Some(query_timeout)).to(embedded.clone());
        let sqlite = config.url.sqlite_path().is_some();
        let turns = |what, at_once| Turns::new(what, at_once, MAX_WAITING);
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
                connections: turns("a database connection", config.pool_size as usize),
                writers: sqlite.then(|| turns("the database's writer", 1)),
                timeout: config.timeout,
                query_timeout,
                answered: Mutex::default(),
                changes: WriteProof::default(),
                embedded,
                system: if sqlite { "sqlite" } else { "postgresql" },
            }),
        }
    }

    /// Runs queries that change nothing, again on another connection if the first one turns out to be
    /// lost.
    ///
    /// Returns within the pool's time limit, with [`Error::Unavailable`] if the database did not respond.
    pub async fn read<T: Send + 'static>(
        &self,
        queries: impl Fn(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, Error> {
        let times = self.times();
        let read = self.on_thread(times, None, move |shared| {
            let attempt = || {
                let mut lent = shared.lend(times)?;
                let result = queries(&mut lent.conn).map_err(Aborted::from);
                shared.conclude(&mut lent, result)
            };
            attempt().or_else(|failure| {
                if !failure.is_lost || Instant::now() >= times.start_by {
                    return Err(failure);
                }
                tracing::debug!(
                    cause = failure.error.cause(),
                    "reading again on another connection"
                );
                attempt()
            })
        });
        self.traced("database read", self.in_time(times, read))
            .await
    }

    /// Makes changes, in one transaction: they happen together or not at all.
    ///
    /// Answers as [`Db::read`] does. A change whose answer came too late may have happened all the
    /// same.
    pub async fn write<T: Send + 'static>(
        &self,
        changes: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        self.as_writer(|conn| conn.write(changes)).await
    }

    /// Makes changes that no request waits for, in one transaction, with a minute for it: a batch that is
    /// cut off again and again would never be written.
    pub async fn write_in_background<T: Send + 'static>(
        &self,
        changes: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let times = Times {
            end_by: Instant::now() + BACKGROUND_WRITE,
            ..self.times()
        };
        self.as_writer_in(times, |conn| conn.write(changes)).await
    }

    /// Does something on a connection that may write, with [`Conn::write`]. It goes on when nobody waits for
    /// it any more, until the pool's time limit is over.
    pub async fn as_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        self.as_writer_in(self.times(), work).await
    }

    async fn as_writer_in<T: Send + 'static>(
        &self,
        times: Times,
        work: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let write = async {
            let writer = self.writer(times).await?;
            self.on_connection(times, writer, noting(self, work)).await
        };
        self.traced("database write", self.in_time(times, write))
            .await
    }

    pub(super) async fn writer(
        &self,
        times: Times,
    ) -> Result<Option<Arc<OwnedSemaphorePermit>>, Error> {
        match &self.shared.writers {
            Some(writers) => Ok(Some(Arc::new(writers.take(times.start_by).await?))),
            None => Ok(None),
        }
    }

    /// Makes changes on a connection.
    pub(super) async fn on_connection<T: Send + 'static>(
        &self,
        times: Times,
        writer: Option<Arc<OwnedSemaphorePermit>>,
        work: impl FnOnce(&mut Conn) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let work = move |shared: &Shared| {
            let mut lent = shared.lend(times)?;
            let result = work(&mut lent.conn);
            let done = shared.conclude(&mut lent, result)?;
            // What went into a file that is not at its path any more is lost at the next start.
            shared.require_files()?;
            Ok(done)
        };
        self.on_thread(times, writer, work).await
    }

    pub(super) async fn traced<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let system = || KeyValue::new("db.system.name", self.shared.system);
        spans::within(SpanKind::Client, name, system, work).await
    }

    /// How it stands with its connections.
    pub fn usage(&self) -> PoolUse {
        let Shared {
            pool,
            connections,
            writers,
            ..
        } = &*self.shared;
        let state = pool.state();
        PoolUse {
            size: pool.max_size(),
            in_use: state.connections.saturating_sub(state.idle_connections),
            idle: state.idle_connections,
            connections: connections.queue(),
            writers: writers.as_ref().map(Turns::queue),
        }
    }

    /// Whether the database has answered anybody this lately, and failed nobody since.
    pub fn has_answered_within(&self, lately: Duration) -> bool {
        let at = self.shared.answered.lock();
        at.unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| at.elapsed() < lately)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.read(ping).await.map(drop)
    }

    pub(super) fn times(&self) -> Times {
        let end_by = Instant::now() + self.shared.timeout;
        Times {
            start_by: end_by - self.shared.query_timeout,
            end_by,
        }
    }

    pub(super) async fn in_time<T>(
        &self,
        times: Times,
        result: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::time::timeout_at(times.end_by.into(), result)
            .await
            .map_err(|_| unavailable("the database did not respond in time"))?
    }

    /// Does work with a connection on a thread where blocking is allowed. The permits are held until the
    /// work has ended, whether or not somebody still waits for it.
    async fn on_thread<T: Send + 'static>(
        &self,
        times: Times,
        writer: Option<Arc<OwnedSemaphorePermit>>,
        work: impl FnOnce(&Shared) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let connection = shared.connections.take(times.start_by).await?;
        tokio::task::spawn_blocking(move || {
            let _permits = (writer, connection);
            deadline::until(times.end_by, || work(&shared))
        })
        .await
        .map_err(|_| Error::Internal("a database thread panicked".into()))?
        .map_err(|failure| failure.error)
    }
}

/// Until when something on the database must begin, and end.
#[derive(Clone, Copy)]
pub(super) struct Times {
    start_by: Instant,
    end_by: Instant,
}

/// Why something on the database failed.
struct Failure {
    error: Error,
    /// True if the connection was lost: another one may be well.
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
    fn lend(&self, times: Times) -> Result<PooledConnection<Manager>, Error> {
        self.require_files()?;
        let left = times.start_by.saturating_duration_since(Instant::now());
        let lent = self.pool.get_timeout(left).map_err(|error| {
            self.note_answer(false);
            unavailable(error.to_string())
        })?;
        if Instant::now() > times.start_by {
            return Err(unavailable("the connection came too late"));
        }
        Ok(lent)
    }

    /// Notes what the result says of the connection.
    fn conclude<T>(
        &self,
        lent: &mut PooledConnection<Manager>,
        result: Result<T, Aborted>,
    ) -> Result<T, Failure> {
        let (mut is_lost, mut is_read_only) = (false, false);
        let result = result.map_err(|aborted| match aborted {
            Aborted::Refused(error) => error,
            Aborted::Query(error) => {
                is_lost = is_lost_connection(&error);
                is_read_only = NoChanges::of(&error) == Some(NoChanges::ReadOnly);
                let error = classify(error);
                lent.doubtful = matches!(error, Error::Unavailable(_));
                error
            }
        });
        // A session may stay read-only when the server is not any more: it is replaced all the same.
        let has_answered = is_read_only && self.embedded.is_none();
        self.note_answer(!lent.doubtful || has_answered);
        result.map_err(|error| Failure { error, is_lost })
    }

    /// Requires that the embedded database's files are where they were when they were opened.
    fn require_files(&self) -> Result<(), Error> {
        let required = self.embedded.as_ref().map_or(Ok(()), |file| file.require());
        required.inspect_err(|_| self.note_answer(false))
    }

    fn note_answer(&self, answered: bool) {
        let mut at = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *at = answered.then(Instant::now);
    }
}

/// Has the pool note how a change ends.
pub(super) fn noting<T, W: FnOnce(&mut Conn) -> Result<T, Aborted>>(
    db: &Db,
    work: W,
) -> impl FnOnce(&mut Conn) -> Result<T, Aborted> + use<T, W> {
    let shared = db.shared.clone();
    move |conn| shared.changes.note(work(conn))
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

/// What a failed query means. Violated constraints that a person can cause are recognised by the
/// services before they come here; what is left of them, and rows that cannot be read, are faults of
/// ours. Everything else is the database not being able to answer: gone, restarting, out of space,
/// locked, too slow.
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
