//! bcrypt, off the threads that answer requests, with a bound on how many hash and how many wait.
//!
//! A hash at cost 12 takes a core for a fifth of a second. One core is left for everything else, so
//! that a flood of logins leaves the rest of the service answering.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use super::password::Password;
use crate::core::{error::Error, turns::Turns};

/// Requests that may wait for their turn, and how long. Past either they are told 503.
const MAX_WAITING: usize = 128;
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Hands out turns at hashing.
pub struct PasswordHasher {
    cost: u32,
    decoy: PasswordHash,
    turns: Turns,
}

/// A bcrypt hash in its usual form, `$2b$12$…`: salted, one-way, yet never shown.
#[derive(Clone)]
pub struct PasswordHash(pub(crate) String);

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
        let at_once = cores.saturating_sub(1).max(1);
        Self {
            cost,
            // Right in form, and no password's: finding one would be a preimage of bcrypt.
            decoy: PasswordHash(format!("$2b${cost:02}${}", ".".repeat(53))),
            turns: Turns::new("a turn at hashing", at_once, MAX_WAITING, MAX_WAIT),
        }
    }

    /// What an unknown account's password is checked against, so that it takes as long as a known
    /// one's.
    pub fn decoy(&self) -> PasswordHash {
        self.decoy.clone()
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Result<Turn, Error> {
        Ok(Turn {
            cost: self.cost,
            permit: Arc::new(self.turns.take().await?),
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

    /// Whether the password is the one that was hashed.
    pub async fn verify(&self, password: Password, hash: PasswordHash) -> Result<bool, Error> {
        self.run(move || bcrypt::verify(password.bytes(), &hash.0))
            .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> bcrypt::BcryptResult<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permit.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)?
        .map_err(Error::internal)
    }
}
