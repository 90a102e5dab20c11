//! Whether this instance should be sent requests, and if not, why.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::{
    core::{error::Error, stopping::Stopping},
    db::Db,
    verification::engine::Engine,
};

/// How long an answer of the database holds for whoever asks next: anybody may ask, as often as they
/// like.
const HOLDS_FOR: Duration = Duration::from_secs(1);
/// How long is waited for the first lease: it comes soon after the start, or something is wrong.
const FIRST_LEASE_WITHIN: Duration = Duration::from_millis(500);

/// Tells whether the service is ready.
pub struct Readiness {
    db: Db,
    engine: Engine,
    stopping: Stopping,
    /// When the database did not answer. Who finds it locked waits for the same answer.
    failed: Mutex<Option<Instant>>,
}

impl Readiness {
    pub fn new(db: Db, engine: Engine, stopping: Stopping) -> Self {
        Self {
            db,
            engine,
            stopping,
            failed: Mutex::default(),
        }
    }

    /// [`Error::NotReady`] says what is missing.
    pub async fn check(&self) -> Result<(), Error> {
        if self.stopping.has_begun() {
            return Err(Error::NotReady("the service is stopping".to_owned()));
        }
        let mut missing = Vec::new();
        if !self.database_answers().await {
            missing.push("the database is out of reach");
        }
        if !self.engine.is_leased(FIRST_LEASE_WITHIN).await {
            missing.push("the lease on what is remembered is missing");
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Error::NotReady(missing.join(", "))),
        }
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
}
