//! Decision about an API key. No other module decides whether a key is valid.

use std::{net::IpAddr, ops::Deref, sync::Arc};

use super::{
    cached_key::CachedKey,
    check_counters::{CheckCounters, LookupSource},
    coherence::Coherence,
    key_cache::KeyCache,
    last_used::LastUsed,
    limits::{InvalidRedisUrl, LimitStatus, Limits},
    lookup::Lookup,
    usage::Usage,
};
pub use crate::verification::{rejection::Rejection, unwritten_usage::UnwrittenUsage};
use crate::{
    config::{CacheConfig, DatabaseConfig, LimitConfig, UsageConfig},
    db::{Claim, ClaimError, ConnectError, Db},
    domain::{
        api_key::KeyDigest,
        boot_clock::BootClock,
        clock::{Clock, UtcTime},
        error::Error,
        scope::Scope,
        usage::Outcome,
    },
    models::key_facts::KeyFacts,
};

/// Verifies API keys. Clones share all state.
///
/// The owner must run [`Engine::run`]. Until it runs, every decision queries the database.
#[derive(Clone)]
pub struct Engine {
    lookup: Lookup<Db>,
    clock: Clock,
    pub(super) last_used: Arc<LastUsed>,
    usage: Usage,
    limits: Limits,
    coherence: Coherence,
    pub(super) key_cache: Option<Arc<KeyCache>>,
    pub(super) check_counters: Arc<CheckCounters>,
}

/// Error raised when an engine cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Claim(#[from] ClaimError),
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("cannot monitor the files of the database: {0}")]
    Files(#[from] std::io::Error),
    #[error("REDIS_URL (--redis-url) {0}")]
    Redis(#[from] InvalidRedisUrl),
}

/// Properties of a request that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub now: UtcTime,
    /// Address of the client. `None` if it is unknown.
    pub client_ip: Option<IpAddr>,
    /// Scopes that the request requires.
    pub scopes: &'a [Scope],
}

/// Valid key of an admitted request.
#[derive(Debug, Clone)]
pub struct VerifiedKey(Arc<CachedKey>);

impl Deref for VerifiedKey {
    type Target = KeyFacts;

    fn deref(&self) -> &KeyFacts {
        &self.0
    }
}

/// Result of the verification of a key.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The key. `None` if it does not exist.
    pub key: Option<Arc<CachedKey>>,
    /// Reason to reject the request. `None` if it is allowed.
    pub refusal: Option<Rejection>,
    /// Status of the key's limits. It is empty if the key itself is rejected: if it does not exist, or is disabled,
    /// expired or revoked.
    pub status: LimitStatus,
}

/// A key to verify, and the use that is made of it.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Key in the form that the client presented.
    pub presented: &'a str,
    /// Address of the client. `None` if it is unknown.
    pub client_ip: Option<IpAddr>,
    /// Scopes that the request requires.
    pub scopes: &'a [Scope],
    /// Cost of the request: rate limit tokens and quota units to take. With 0 the key is only inspected: nothing is
    /// taken, and no usage is recorded.
    pub cost: u64,
}

impl Engine {
    /// Creates an engine for another program, on a database that the service has migrated.
    ///
    /// On PostgreSQL the engine is one more instance beside those of the service. An embedded database is used by
    /// this engine alone.
    pub fn open(
        database: &DatabaseConfig,
        cache: &CacheConfig,
        limits: &LimitConfig,
        usage: &UsageConfig,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let claim = Claim::take(&database.url)?;
        let db = Db::open(database)?;
        claim.keep(&db)?;
        Self::new(claim, db, database, cache, limits, usage, clock)
    }

    /// Creates an engine on an open database.
    pub fn new(
        claim: Claim,
        db: Db,
        database: &DatabaseConfig,
        cache: &CacheConfig,
        limits: &LimitConfig,
        usage: &UsageConfig,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let boot = BootClock::default();
        let key_cache = KeyCache::new(cache, boot).map(Arc::new);
        let coherence = Coherence::new(
            Some(claim),
            db.clone(),
            database,
            clock.clone(),
            boot,
            key_cache.clone(),
        );
        let clocks = (clock.clone(), boot);
        let limits = Limits::new(
            limits,
            cache.max_keys,
            db.clone(),
            clocks,
            coherence.instance_count(),
        );
        Ok(Self {
            lookup: Lookup::new(db.clone(), boot, key_cache.clone()),
            last_used: Arc::new(LastUsed::new(db.clone())),
            usage: Usage::new(db, clock.clone(), usage),
            limits: limits?,
            clock,
            coherence,
            key_cache,
            check_counters: Arc::default(),
        })
    }

    /// Runs the background tasks until `stop` completes, then shuts down.
    ///
    /// - The tasks renew the lease on the cache and invalidate changed keys, synchronize limits with the other
    ///   instances, write counts and times of last use periodically, and roll up old counts.
    /// - On shutdown it gives up the lease, so that no change waits for this instance. Then it returns unspent units
    ///   of quotas, and writes the remaining counts and times of last use.
    ///
    /// All requests should have completed before `stop` does: later uses are not written. Fails if some data could
    /// not be written.
    pub async fn run(
        &self,
        usage: &UsageConfig,
        stop: impl Future<Output = ()>,
    ) -> Result<(), UnwrittenUsage> {
        tokio::select! {
            () = self.coherence.keep_lease(stop) => {}
            () = self.last_used.flush_every(usage.last_used_interval) => {}
            () = self.usage.run(usage) => {}
            () = self.limits.keep() => {}
        }
        let (_, counts, last_used) = tokio::join!(
            self.limits.close(),
            self.usage.close(),
            self.last_used.flush(),
        );
        let keys = self.last_used.len();
        if let Err(error) = last_used {
            let cause = error.cause();
            tracing::error!(
                cause,
                keys,
                "failed to write last_used timestamps on shutdown; they are lost"
            );
        }
        match (counts, keys) {
            (0, 0) => Ok(()),
            _ => Err(UnwrittenUsage { counts, keys }),
        }
    }

    /// Returns the counters of key usage.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Returns the rate limits and quotas.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the handle through which keys and users must be changed.
    pub fn coherence(&self) -> &Coherence {
        &self.coherence
    }

    /// Verifies a key for a request with cost 1. An error means that no decision was possible: the caller must reject
    /// the request.
    pub async fn verify(
        &self,
        presented: &str,
        client_ip: Option<IpAddr>,
        scopes: &[Scope],
    ) -> Result<Result<VerifiedKey, Rejection>, Error> {
        let question = Question {
            presented,
            client_ip,
            scopes,
            cost: 1,
        };
        Ok(self.admit(&question).await?.0)
    }

    /// Verifies a key for a request with any cost. Also returns the status of the key's limits. An error means that no
    /// decision was possible: the caller must reject the request.
    pub async fn admit(
        &self,
        question: &Question<'_>,
    ) -> Result<(Result<VerifiedKey, Rejection>, LimitStatus), Error> {
        let decision = self.evaluate(question).await?;
        let admitted = match (decision.key, decision.refusal) {
            (Some(key), None) => Ok(VerifiedKey(key)),
            (_, refusal) => Err(refusal.unwrap_or(Rejection::NotFound)),
        };
        Ok((admitted, decision.status))
    }

    /// Verifies a key and returns the full decision. An error means that no decision was possible.
    pub async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, Error> {
        let (found, source) = match KeyDigest::of_presented(question.presented) {
            Some(digest) => match self.lookup.find(digest).await {
                Ok((found, source)) => (Ok(found), source),
                Err(error) => (Err(error), LookupSource::Database),
            },
            None => (Ok(None), LookupSource::None),
        };
        let decision = match found {
            Ok(key) => self.evaluate_found(key, question).await,
            Err(error) => Err(error),
        };
        let outcome = decision.as_ref().map(|decision| decision.refusal.as_ref());
        self.check_counters.record(outcome, source);
        decision
    }

    async fn evaluate_found(
        &self,
        key: Option<Arc<CachedKey>>,
        question: &Question<'_>,
    ) -> Result<Decision, Error> {
        let request = Request {
            // The time is taken after the lookup: a key that expired during the lookup is rejected.
            now: self.clock.now(),
            client_ip: question.client_ip,
            scopes: question.scopes,
        };
        let mut refusal = decide(key.as_deref().map(Deref::deref), &request).err();
        let mut status = LimitStatus::default();
        match (&key, &refusal) {
            (Some(key), None) => {
                (status, refusal) = self.limits.charge(key, question.cost).await?;
            }
            // Takes nothing from the limits, but returns their status.
            (Some(key), Some(rejection)) if rejection.depends_on_request() => {
                status = self.limits.look(key).await;
            }
            _ => {}
        }
        if question.cost > 0 {
            let outcome = Outcome::of(refusal.as_ref());
            self.usage.record(key.as_ref(), outcome, request.now);
            if let (Some(key), None) = (&key, &refusal) {
                self.last_used.record(key, request.now);
            }
        }
        Ok(Decision {
            key,
            refusal,
            status,
        })
    }
}

/// Checks a key against a request, without its limits. Returns the first reason to reject it, in the order of the API
/// contract.
pub fn decide(stored: Option<&KeyFacts>, request: &Request<'_>) -> Result<(), Rejection> {
    let key = stored.ok_or(Rejection::NotFound)?;
    if !key.enabled || !key.user_active {
        return Err(Rejection::Disabled);
    }
    if key.is_expired(request.now) {
        return Err(Rejection::Expired);
    }
    if key.revoked_at.is_some() {
        return Err(Rejection::Revoked);
    }
    let is_allowed = |address| key.ip_allowlist.contain(address);
    if !key.ip_allowlist.is_empty() && !request.client_ip.is_some_and(is_allowed) {
        return Err(Rejection::IpNotAllowed);
    }
    let required = request.scopes.iter().map(Scope::as_str);
    let missing: Vec<_> = required
        .filter(|scope| !key.scopes.grant(scope))
        .map(str::to_owned)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Rejection::InsufficientScope(missing))
    }
}
