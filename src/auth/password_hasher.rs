//! Password hashing with bcrypt on separate threads, with a limit on concurrent hashes and on waiting requests.
//!
//! A hash at cost 12 occupies a core for 0.2 seconds. One core is left for everything else, so that the rest of the
//! service stays responsive during a flood of logins.

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
    wait_queue::{WaitQueue, WaitQueueUsage},
};

/// Maximum number of requests that wait for a permit, and maximum wait. Beyond either, the response is 503.
const MAX_WAITING: usize = 128;
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Password hasher with a limited number of permits.
pub struct PasswordHasher {
    cost: u32,
    threads: usize,
    decoy: PasswordHash,
    permits: WaitQueue,
}

/// bcrypt hash in its usual form, `$2b$12$…`. It is salted and one-way, and never shown all the same.
#[derive(Clone, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct PasswordHash(pub(crate) String);

impl PasswordHash {
    /// Returns the cost of the hash; `None` if it is not a bcrypt hash.
    fn cost(&self) -> Option<u32> {
        self.0.split('$').nth(2)?.parse().ok()
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash([REDACTED])")
    }
}

/// Permit to hash. It is held until it is dropped and the work that it started has finished: a client that disconnects
/// does not release it early.
pub struct HashPermit {
    cost: u32,
    permit: Arc<OwnedSemaphorePermit>,
}

impl PasswordHasher {
    /// Creates a hasher with this cost that uses all cores but one.
    pub fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_sub(1).max(1);
        Self {
            cost,
            threads,
            // Well-formed, but the hash of no known password: to find one would take a preimage of bcrypt.
            decoy: PasswordHash(format!("$2b${cost:02}${}", ".".repeat(53))),
            permits: WaitQueue::new("a password hashing permit", threads, MAX_WAITING),
        }
    }

    /// Returns the hash to verify against if the account is unknown, so that the response takes as long as for a known
    /// account.
    pub fn decoy(&self) -> PasswordHash {
        self.decoy.clone()
    }

    /// Returns whether a hash has another cost than the configured one, and should be replaced.
    pub fn is_outdated(&self, hash: &PasswordHash) -> bool {
        hash.cost() != Some(self.cost)
    }

    /// Returns the maximum number of hashing threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Returns the number of permits in use and of waiting requests.
    pub fn usage(&self) -> WaitQueueUsage {
        self.permits.usage()
    }

    /// Waits for a permit.
    pub async fn permit(&self) -> Result<HashPermit, Error> {
        Ok(HashPermit {
            cost: self.cost,
            permit: Arc::new(self.permits.take(Instant::now() + MAX_WAIT).await?),
        })
    }
}

impl HashPermit {
    /// Hashes a password that has been checked to be acceptable.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Error> {
        let cost = self.cost;
        self.run(move || bcrypt::hash(password.bytes(), cost).map(PasswordHash))
            .await
    }

    /// Returns the password if it matches the hash.
    ///
    /// The response time must not reveal an account whose hash has a lower cost, from before the cost was raised. So
    /// the work that its hash saves is done all the same.
    pub async fn verify(
        &self,
        password: Password,
        hash: PasswordHash,
    ) -> Result<Option<Password>, Error> {
        let missing_costs = hash.cost().unwrap_or(self.cost)..self.cost;
        self.run(move || {
            let is_match = bcrypt::verify(password.bytes(), &hash.0)?;
            for cost in missing_costs {
                bcrypt::hash(password.bytes(), cost)?;
            }
            Ok(is_match.then_some(password))
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
        traces::in_span(SpanKind::Internal, "bcrypt", cost, hashed).await
    }
}
