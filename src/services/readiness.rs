//! Decides whether this instance should be sent requests, and if not, what is missing.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::{
    db::{Db, NoChanges},
    domain::{clock::Clock, error::Error, id::InstanceId},
    models::write_probe,
    shutdown::Shutdown,
    verification::engine::Engine,
};

/// The time that a result holds for whoever asks next: anybody may ask, as often as they like.
const HOLDS_FOR: Duration = Duration::from_secs(1);
/// The time that the first lease is waited for: it comes soon after the start, or something is wrong.
const FIRST_LEASE_WITHIN: Duration = Duration::from_millis(500);

/// Tells whether the service is ready.
pub struct Readiness {
    db: Db,
    engine: Engine,
    clock: Clock,
    stopping: Shutdown,
    /// The time when the database did not answer. Whoever finds it locked waits for the same result.
    failed: Mutex<Option<Instant>>,
    /// The time when it was last tried to change something, and how that ended.
    probed: Mutex<Option<(Instant, Result<(), NoChanges>)>>,
}

impl Readiness {
    pub fn new(db: Db, engine: Engine, clock: Clock, stopping: Shutdown) -> Self {
        Self {
            db,
            engine,
            clock,
            stopping,
            failed: Mutex::default(),
            probed: Mutex::default(),
        }
    }

    /// Requires everything that any request needs. [`Error::NotReady`] says what is missing.
    pub async fn require_all(&self) -> Result<(), Error> {
        self.require_running()?;
        let mut missing = Vec::new();
        if !self.database_answers().await {
            missing.push("the database is out of reach");
        } else if let Err(cause) = self.database_takes_changes().await {
            missing.push(match cause {
                NoChanges::DiskFull => "the database takes no changes, since its disk is full",
                NoChanges::ReadOnly => "the database takes no changes, since it is read-only",
                NoChanges::Other => "the database takes no changes",
            });
        }
        if !self.engine.is_leased(FIRST_LEASE_WITHIN).await {
            missing.push("the lease on what is remembered is missing");
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Error::NotReady(missing.join(", "))),
        }
    }

    /// Requires what a check of a key needs: the cache, or else a database that answers.
    pub async fn require_checks(&self) -> Result<(), Error> {
        self.require_running()?;
        let lease = self.engine.lease();
        if lease.is_some_and(|lease| lease.left > Duration::ZERO) || self.database_answers().await {
            return Ok(());
        }
        Err(Error::NotReady("the database is out of reach".to_owned()))
    }

    fn require_running(&self) -> Result<(), Error> {
        if self.stopping.has_begun() {
            return Err(Error::NotReady("the service is stopping".to_owned()));
        }
        self.db
            .lost_files()
            .map_or(Ok(()), |loss| Err(Error::NotReady(loss)))
    }

    /// However many ask, it is asked once in a while; and not at all while it answers others, for whose
    /// number alone this may have to wait too long.
    async fn database_answers(&self) -> bool {
        if self.db.has_answered_within(HOLDS_FOR) {
            return true;
        }
        let mut failed = self.failed.lock().await;
        if failed.is_some_and(|at| at.elapsed() < HOLDS_FOR) {
            return self.db.has_answered_within(HOLDS_FOR);
        }
        let well = self.db.ping().await.is_ok() || self.db.has_answered_within(HOLDS_FOR);
        *failed = (!well).then(Instant::now);
        well
    }

    /// Does so for changes: as long as others make some, those are the proof.
    async fn database_takes_changes(&self) -> Result<(), NoChanges> {
        if self.db.has_changed_within(HOLDS_FOR) {
            return Ok(());
        }
        let mut probed = self.probed.lock().await;
        if self.db.has_changed_within(HOLDS_FOR) {
            return Ok(());
        }
        if let Some((at, result)) = *probed
            && at.elapsed() < HOLDS_FOR
        {
            return result;
        }
        let now = self.clock.now();
        let id = InstanceId::generate(now);
        let probe = self
            .db
            .prove_changes(move |conn| write_probe::write(conn, id, now));
        let result = probe.await;
        // As many may want to write that this had to wait for too long.
        let result = result.or_else(|cause| match self.db.has_changed_within(HOLDS_FOR) {
            true => Ok(()),
            false => Err(cause),
        });
        *probed = Some((Instant::now(), result));
        result
    }
}
