//! The decision whether a key is good: the only place that decides.

use std::{net::IpAddr, ops::Deref, sync::Arc};

use crate::verification::{
    cached_key::CachedKey,
    check_counters::{CheckCounters, Source},
    coherence::Coherence,
    key_cache::KeyCache,
    last_used::LastUsed,
    limits::{InvalidRedisUrl, LimitStatus, Limits},
    lookup::Lookup,
    usage::Usage,
};
pub use crate::verification::{rejection::Rejection, unwritten::Unwritten};
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

/// Decides about keys. Clones share what it needs.
///
/// Whoever has one sees to it that [`Engine::run`] runs. Until it does, each decision asks the
/// database.
#[derive(Clone)]
pub struct Engine {
    lookup: Lookup<Db>,
    clock: Clock,
    pub(super) last_used: Arc<LastUsed>,
    usage: Usage,
    limits: Limits,
    coherence: Coherence,
    pub(super) key_cache: Option<Arc<KeyCache>>,
    pub(super) meter: Arc<CheckCounters>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Claim(#[from] ClaimError),
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("cannot watch over the database's files: {0}")]
    Files(#[from] std::io::Error),
    #[error("REDIS_URL (--redis-url) {0}")]
    Redis(#[from] InvalidRedisUrl),
}

/// What of a request bears on the decision.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub now: UtcTime,
    /// The client's address, if it is known.
    pub client_ip: Option<IpAddr>,
    /// What the key must be good for.
    pub scopes: &'a [Scope],
}

/// A key that was found good, and for whom it speaks.
#[derive(Debug, Clone)]
pub struct VerifiedKey(Arc<CachedKey>);

impl Deref for VerifiedKey {
    type Target = KeyFacts;

    fn deref(&self) -> &KeyFacts {
        &self.0
    }
}

/// What a verifier learns.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The key, if there is one.
    pub key: Option<Arc<CachedKey>>,
    /// Why it is not good.
    pub refusal: Option<Rejection>,
    /// How it stands with its limits, if it is good but for them, or for where and what it is used for.
    pub status: LimitStatus,
}

/// What somebody wants to know of a key.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// As it was presented.
    pub presented: &'a str,
    /// The client's address, if it is known.
    pub client_ip: Option<IpAddr>,
    /// What the key must be good for.
    pub scopes: &'a [Scope],
    /// What this use takes of the key's limits. With 0 the key is not used, only looked at.
    pub cost: u64,
}

impl Engine {
    /// An engine of another program on a database that the service has migrated. On PostgreSQL it is
    /// one more instance beside those that serve it; an embedded database it has for itself.
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

    /// An engine on a database that is open.
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
            coherence.count(),
        );
        Ok(Self {
            lookup: Lookup::new(db.clone(), boot, key_cache.clone()),
            last_used: Arc::new(LastUsed::new(db.clone())),
            usage: Usage::new(db, clock.clone(), usage),
            limits: limits?,
            clock,
            coherence,
            key_cache,
            meter: Arc::default(),
        })
    }

    /// Does until `stop` what must be done all the time: keeps what is remembered true, stays in touch
    /// with who else counts, writes every so often how keys were used and when they last were, and rolls
    /// up what is old of it. Then it gives up what is remembered, so that nobody has to wait for this
    /// instance, gives back what it has in hand of quotas, and writes the rest. Before that all requests
    /// should have been answered: what is used later is not written any more. Says what could not be
    /// written.
    pub async fn run(
        &self,
        usage: &UsageConfig,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Unwritten> {
        tokio::select! {
            () = self.coherence.keep_lease(stop) => {}
            () = self.last_used.flush_every(usage.last_used_interval) => {}
            () = self.usage.keep(usage) => {}
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
            tracing::error!(cause, keys, "lost when keys were last used");
        }
        match (counts, keys) {
            (0, 0) => Ok(()),
            _ => Err(Unwritten { counts, keys }),
        }
    }

    /// How keys are used.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// What is counted of keys and signups.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What changes of keys go through.
    pub fn coherence(&self) -> &Coherence {
        &self.coherence
    }

    /// Lets a key in for one use, or says why not. An error means that nobody can tell, which opens no
    /// door.
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

    /// The same of any use, with how it stands with the key's limits.
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

    /// All that there is to say of a key. An error means that nobody can tell.
    pub async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, Error> {
        let (found, source) = match KeyDigest::of_presented(question.presented) {
            Some(digest) => match self.lookup.find(digest).await {
                Ok((found, source)) => (Ok(found), source),
                Err(error) => (Err(error), Source::Database),
            },
            None => (Ok(None), Source::None),
        };
        let judged = match found {
            Ok(key) => self.evaluate_found(key, question).await,
            Err(error) => Err(error),
        };
        let outcome = judged.as_ref().map(|decision| decision.refusal.as_ref());
        self.meter.note(outcome, source);
        judged
    }

    async fn evaluate_found(
        &self,
        key: Option<Arc<CachedKey>>,
        question: &Question<'_>,
    ) -> Result<Decision, Error> {
        let request = Request {
            // After the key is found: what ended while it was looked up has ended.
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
            // It takes nothing, but is told how it stands.
            (Some(key), Some(refused)) if refused.is_of_this_use() => {
                status = self.limits.look(key).await;
            }
            _ => {}
        }
        if question.cost > 0 {
            let outcome = Outcome::of(refusal.as_ref());
            self.usage.note(key.as_ref(), outcome, request.now);
            if let (Some(key), None) = (&key, &refusal) {
                self.last_used.note(key, request.now);
            }
        }
        Ok(Decision {
            key,
            refusal,
            status,
        })
    }
}

/// The first reason to refuse a key, in the contract's order.
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
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Rejection::InsufficientScope(missing)),
    }
}
