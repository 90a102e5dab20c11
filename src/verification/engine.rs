//! The decision whether a key is good: the only place that decides.

use std::{net::IpAddr, ops::Deref, sync::Arc};

use super::{
    check_meter::{CheckMeter, Source},
    coherence::Coherence,
    known_key::KnownKey,
    last_used::LastUsed,
    limits::{Limits, NoStore, Standing},
    lookup::Lookup,
    memory::Memory,
    usage::Usage,
};
pub use super::{refusal::Refusal, unwritten::Unwritten};
use crate::{
    core::{
        boot_clock::BootClock,
        clock::{Clock, UtcTime},
        config::{CacheConfig, DatabaseConfig, LimitConfig, UsageConfig},
        error::Error,
        scope::Scope,
        security::api_key::KeyDigest,
        usage::Outcome,
    },
    db::{Claim, ClaimError, ConnectError, Db},
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
    pub(super) memory: Option<Arc<Memory>>,
    pub(super) meter: Arc<CheckMeter>,
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
    Redis(#[from] NoStore),
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
pub struct VerifiedKey(Arc<KnownKey>);

impl Deref for VerifiedKey {
    type Target = KeyFacts;

    fn deref(&self) -> &KeyFacts {
        &self.0
    }
}

/// What a verifier learns.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The key, if there is one.
    pub key: Option<Arc<KnownKey>>,
    /// Why it is not good.
    pub refusal: Option<Refusal>,
    /// How it stands with its limits, if it is good but for them, or for where and what it is used for.
    pub standing: Standing,
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
        let memory = Memory::new(cache, boot).map(Arc::new);
        let coherence = Coherence::new(
            Some(claim),
            db.clone(),
            database,
            clock.clone(),
            boot,
            memory.clone(),
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
            lookup: Lookup::new(db.clone(), boot, memory.clone()),
            last_used: Arc::new(LastUsed::new(db.clone())),
            usage: Usage::new(db, clock.clone(), usage),
            limits: limits?,
            clock,
            coherence,
            memory,
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
    ) -> Result<Result<VerifiedKey, Refusal>, Error> {
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
    ) -> Result<(Result<VerifiedKey, Refusal>, Standing), Error> {
        let verdict = self.judge(question).await?;
        let admitted = match (verdict.key, verdict.refusal) {
            (Some(key), None) => Ok(VerifiedKey(key)),
            (_, refusal) => Err(refusal.unwrap_or(Refusal::NotFound)),
        };
        Ok((admitted, verdict.standing))
    }

    /// All that there is to say of a key. An error means that nobody can tell.
    pub async fn judge(&self, question: &Question<'_>) -> Result<Verdict, Error> {
        let (found, source) = match KeyDigest::of_presented(question.presented) {
            Some(digest) => match self.lookup.find(digest).await {
                Ok((found, source)) => (Ok(found), source),
                Err(error) => (Err(error), Source::Database),
            },
            None => (Ok(None), Source::None),
        };
        let judged = match found {
            Ok(key) => self.judge_found(key, question).await,
            Err(error) => Err(error),
        };
        let outcome = judged.as_ref().map(|verdict| verdict.refusal.as_ref());
        self.meter.note(outcome, source);
        judged
    }

    async fn judge_found(
        &self,
        key: Option<Arc<KnownKey>>,
        question: &Question<'_>,
    ) -> Result<Verdict, Error> {
        let request = Request {
            // After the key is found: what ended while it was looked up has ended.
            now: self.clock.now(),
            client_ip: question.client_ip,
            scopes: question.scopes,
        };
        let mut refusal = decide(key.as_deref().map(Deref::deref), &request).err();
        let mut standing = Standing::default();
        match (&key, &refusal) {
            (Some(key), None) => {
                (standing, refusal) = self.limits.charge(key, question.cost).await?;
            }
            // It takes nothing, but is told how it stands.
            (Some(key), Some(refused)) if refused.is_of_this_use() => {
                standing = self.limits.look(key).await;
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
        Ok(Verdict {
            key,
            refusal,
            standing,
        })
    }
}

/// The first reason to refuse a key, in the contract's order.
pub fn decide(stored: Option<&KeyFacts>, request: &Request<'_>) -> Result<(), Refusal> {
    let key = stored.ok_or(Refusal::NotFound)?;
    if !key.enabled || !key.user_active {
        return Err(Refusal::Disabled);
    }
    if key.is_expired(request.now) {
        return Err(Refusal::Expired);
    }
    if key.revoked_at.is_some() {
        return Err(Refusal::Revoked);
    }
    let is_allowed = |address| key.ip_allowlist.contain(address);
    if !key.ip_allowlist.is_empty() && !request.client_ip.is_some_and(is_allowed) {
        return Err(Refusal::IpNotAllowed);
    }
    let required = request.scopes.iter().map(Scope::as_str);
    let missing: Vec<_> = required
        .filter(|scope| !key.scopes.grant(scope))
        .map(str::to_owned)
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Refusal::InsufficientScope(missing)),
    }
}
