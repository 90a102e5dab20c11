//! The decision whether a key is good: the only place that decides.

use std::{net::IpAddr, ops::Deref, sync::Arc, time::Duration};

use super::{
    coherence::Coherence, known_key::KnownKey, last_used::LastUsed, lookup::Lookup, memory::Memory,
};
use crate::{
    core::{
        boot_clock::BootClock,
        clock::{Clock, UtcTime},
        config::{CacheConfig, DatabaseConfig},
        error::Error,
        scope::Scope,
        security::api_key::KeyDigest,
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
    last_used: Arc<LastUsed>,
    coherence: Coherence,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Claim(#[from] ClaimError),
    #[error("{0}")]
    Connect(#[from] ConnectError),
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
    /// Whether the key is used, or only looked at.
    pub is_use: bool,
}

/// Why a key is not good. The caller is not told which of the first four: that goes to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Malformed, mistyped, or never issued.
    NotFound,
    /// Switched off by its owner, or its owner is deactivated.
    Disabled,
    /// Its time is over.
    Expired,
    /// Revoked for good.
    Revoked,
    /// The client's address is not in the key's allowlist.
    IpNotAllowed,
    /// The key lacks these scopes.
    InsufficientScope(Vec<String>),
}

impl Refusal {
    /// The contract's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::InsufficientScope(_) => "insufficient_scope",
        }
    }
}

/// What the caller is told.
impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotFound | Refusal::Disabled | Refusal::Expired | Refusal::Revoked => {
                Self::InvalidApiKey
            }
            Refusal::IpNotAllowed => Self::IpNotAllowed,
            Refusal::InsufficientScope(missing) => Self::InsufficientScope(missing.clone()),
        }
    }
}

impl Engine {
    /// An engine of another program on a database that the service has migrated. On PostgreSQL it is
    /// one more instance beside those that serve it; an embedded database it has for itself.
    pub fn open(
        database: &DatabaseConfig,
        cache: &CacheConfig,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let claim = Claim::take(&database.url)?;
        let db = Db::open(database)?;
        Ok(Self::new(claim, db, database, cache, clock))
    }

    /// An engine on a database that is open.
    pub fn new(
        claim: Claim,
        db: Db,
        database: &DatabaseConfig,
        cache: &CacheConfig,
        clock: Clock,
    ) -> Self {
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
        Self {
            lookup: Lookup::new(db.clone(), boot, memory),
            last_used: Arc::new(LastUsed::new(db)),
            clock,
            coherence,
        }
    }

    /// Does until `stop` what must be done all the time: keeps what is remembered true, and writes
    /// every so often when keys were last used. Then it gives up what is remembered, so that nobody
    /// has to wait for this instance, and writes the rest.
    pub async fn run(&self, last_used_interval: Duration, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.coherence.keep_lease(stop) => {}
            () = self.last_used.flush_every(last_used_interval) => {}
        }
        if let Err(error) = self.last_used.flush().await {
            let cause = error.cause();
            tracing::error!(cause, "lost when keys were last used");
        }
    }

    /// What changes of keys go through.
    pub fn coherence(&self) -> &Coherence {
        &self.coherence
    }

    /// Lets a key in, or says why not. An error means that nobody can tell, which opens no door.
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
            is_use: true,
        };
        let Verdict { key, refusal } = self.judge(&question).await?;
        Ok(match (key, refusal) {
            (Some(key), None) => Ok(VerifiedKey(key)),
            (_, refusal) => Err(refusal.unwrap_or(Refusal::NotFound)),
        })
    }

    /// All that there is to say of a key. An error means that nobody can tell.
    pub async fn judge(&self, question: &Question<'_>) -> Result<Verdict, Error> {
        let key = match KeyDigest::of_presented(question.presented) {
            Some(digest) => self.lookup.find(digest).await?,
            None => None,
        };
        let request = Request {
            // After the key is found: what ended while it was looked up has ended.
            now: self.clock.now(),
            client_ip: question.client_ip,
            scopes: question.scopes,
        };
        let refusal = decide(key.as_deref().map(Deref::deref), &request).err();
        if let (Some(key), None, true) = (&key, &refusal, question.is_use) {
            self.last_used.note(key, request.now);
        }
        Ok(Verdict { key, refusal })
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
