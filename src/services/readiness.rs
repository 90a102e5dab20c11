//! Readiness: decides whether this instance should receive requests, and if not, what is missing.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::{
    db::{Db, WriteFailure},
    domain::{clock::Clock, error::Error, id::InstanceId},
    models::write_probe,
    shutdown::Shutdown,
    verification::engine::Engine,
};

/// Time for which a result is reused. Anyone may send readiness requests, as often as they like.
const RESULT_VALID_FOR: Duration = Duration::from_secs(1);
/// Time to wait for the first lease, which normally arrives soon after the start.
const FIRST_LEASE_TIMEOUT: Duration = Duration::from_millis(500);

/// Readiness checks of this instance.
pub struct Readiness {
    db: Db,
    engine: Engine,
    clock: Clock,
    shutdown: Shutdown,
    /// Time of the last failed ping of the database. Concurrent requests wait for the lock, and so for the same result.
    failed_at: Mutex<Option<Instant>>,
    /// Time and result of the last test write.
    last_probe: Mutex<Option<(Instant, Result<(), WriteFailure>)>>,
}

impl Readiness {
    pub fn new(db: Db, engine: Engine, clock: Clock, shutdown: Shutdown) -> Self {
        Self {
            db,
            engine,
            clock,
            shutdown,
            failed_at: Mutex::default(),
            last_probe: Mutex::default(),
        }
    }

    /// Checks everything that any request needs. [`Error::NotReady`] says what is missing.
    pub async fn require_all(&self) -> Result<(), Error> {
        self.require_running()?;
        let mut missing = Vec::new();
        if !self.is_database_reachable().await {
            missing.push("the database is unreachable");
        } else if let Err(cause) = self.require_writable_database().await {
            missing.push(match cause {
                WriteFailure::DiskFull => "the database rejects writes because its disk is full",
                WriteFailure::ReadOnly => "the database rejects writes because it is read-only",
                WriteFailure::Other => "the database rejects writes",
            });
        }
        if !self.engine.is_leased(FIRST_LEASE_TIMEOUT).await {
            missing.push("this instance has no lease on its cache");
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Error::NotReady(missing.join(", ")))
        }
    }

    /// Checks what the verification of a key needs: a lease on the cache, or else a reachable database.
    pub async fn require_checks(&self) -> Result<(), Error> {
        self.require_running()?;
        let lease = self.engine.lease();
        if lease.is_some_and(|lease| lease.left > Duration::ZERO)
            || self.is_database_reachable().await
        {
            return Ok(());
        }
        Err(Error::NotReady("the database is unreachable".to_owned()))
    }

    fn require_running(&self) -> Result<(), Error> {
        if self.shutdown.has_begun() {
            return Err(Error::NotReady("the service is shutting down".to_owned()));
        }
        self.db
            .file_loss()
            .map_or(Ok(()), |loss| Err(Error::NotReady(loss)))
    }

    /// Returns whether the database responds. It is pinged at most once per [`RESULT_VALID_FOR`], and not at all while
    /// it responds to other queries: under load a ping could wait too long for a connection.
    async fn is_database_reachable(&self) -> bool {
        if self.db.has_responded_within(RESULT_VALID_FOR) {
            return true;
        }
        let mut failed_at = self.failed_at.lock().await;
        if failed_at.is_some_and(|at| at.elapsed() < RESULT_VALID_FOR) {
            return self.db.has_responded_within(RESULT_VALID_FOR);
        }
        let is_reachable =
            self.db.ping().await.is_ok() || self.db.has_responded_within(RESULT_VALID_FOR);
        *failed_at = (!is_reachable).then(Instant::now);
        is_reachable
    }

    /// Checks that the database accepts writes. Recent writes of other requests are proof enough; otherwise writes a
    /// test row.
    async fn require_writable_database(&self) -> Result<(), WriteFailure> {
        if self.db.has_committed_within(RESULT_VALID_FOR) {
            return Ok(());
        }
        let mut last_probe = self.last_probe.lock().await;
        if self.db.has_committed_within(RESULT_VALID_FOR) {
            return Ok(());
        }
        if let Some((at, result)) = *last_probe
            && at.elapsed() < RESULT_VALID_FOR
        {
            return result;
        }
        let now = self.clock.now();
        let id = InstanceId::generate(now);
        let probe = self
            .db
            .probe_writes(move |conn| write_probe::write(conn, id, now));
        let result = probe.await;
        // Under load the test write may have waited too long, while other writes succeeded.
        let result = result.or_else(|cause| {
            if self.db.has_committed_within(RESULT_VALID_FOR) {
                Ok(())
            } else {
                Err(cause)
            }
        });
        *last_probe = Some((Instant::now(), result));
        result
    }
}
