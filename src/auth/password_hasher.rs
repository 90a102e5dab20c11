//! bcrypt, off the threads that answer requests, with a bound on how many hash and how many wait.
//!
//! A hash at cost 12 takes a core for a fifth of a second. One core is left for everything else, so
//! that a flood of logins leaves the rest of the service answering.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use opentelemetry::{KeyValue, trace::SpanKind};
use tokio::sync::OwnedSemaphorePermit;

use super::password::Password;
use crate::{
    domain::error::Error,
    telemetry::traces,
    wait_queue::{WaitQueue, WaitQueueUse},
};

/// Requests that may wait for their turn, and how long. Past either they are told 503.
const MAX_WAITING: usize = 128;
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Hands out turns at hashing.
pub struct PasswordHasher {
    cost: u32,
    threads: usize,
    decoy: PasswordHash,
    turns: WaitQueue,
}

/// A bcrypt hash in its usual form, `$2b$12$…`: salted, one-way, yet never shown.
#[derive(Clone, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct PasswordHash(pub(crate) String);

impl PasswordHash {
    /// The cost that it was made at, if it is a bcrypt hash at all.
    fn cost(&self) -> Option<u32> {
        self.0.split('$').nth(2)?.parse().ok()
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash([REDACTED])")
    }
}

/// The right to hash, held until it is dropped and the work that it began has ended: a client that
/// hangs up does not free it early.
pub struct Turn {
    cost: u32,
    permit: Arc<OwnedSemaphorePermit>,
}

impl PasswordHasher {
    /// Hashes at `cost`, on all cores but one.
    pub fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_sub(1).max(1);
        Self {
            cost,
            threads,
            // Right in form, and no password's: finding one would be a preimage of bcrypt.
            decoy: PasswordHash(format!("$2b${cost:02}${}", ".".repeat(53))),
            turns: WaitQueue::new("a turn at hashing", threads, MAX_WAITING),
        }
    }

    /// What an unknown account's password is checked against, so that it takes as long as a known
    /// one's.
    pub fn decoy(&self) -> PasswordHash {
        self.decoy.clone()
    }

    /// Whether a hash was made at another cost than today's, and should be made again.
    pub fn is_outdated(&self, hash: &PasswordHash) -> bool {
        hash.cost() != Some(self.cost)
    }

    /// How many threads hash at the most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How many hash, and wait for it.
    pub fn queue(&self) -> WaitQueueUse {
        self.turns.usage()
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Result<Turn, Error> {
        Ok(Turn {
            cost: self.cost,
            permit: Arc::new(self.turns.take(Instant::now() + MAX_WAIT).await?),
        })
    }
}

impl Turn {
    /// Hashes a password that was checked to be acceptable.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Error> {
        let cost = self.cost;
        self.run(move || bcrypt::hash(password.bytes(), cost).map(PasswordHash))
            .await
    }

    /// Gives the password back if it is the one that was hashed.
    ///
    /// An account from before the cost was raised must not be told from others by its time: the work
    /// that its hash saves is done all the same.
    pub async fn verify(
        &self,
        password: Password,
        hash: PasswordHash,
    ) -> Result<Option<Password>, Error> {
        let saved = hash.cost().unwrap_or(self.cost)..self.cost;
        self.run(move || {
            let right = bcrypt::verify(password.bytes(), &hash.0)?;
            for cost in saved {
                bcrypt::hash(password.bytes(), cost)?;
            }
            Ok(right.then_some(password))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> bcrypt::BcryptResult<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permit.clone();
        let hashed = async {
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work()
            })
            .await
            .map_err(|_| Error::Internal("a hashing thread panicked".into()))?
            .map_err(Error::internal)
        };
        let cost = || KeyValue::new("latchkey.bcrypt.cost", i64::from(self.cost));
        traces::within(SpanKind::Internal, "bcrypt", cost, hashed).await
    }
}
