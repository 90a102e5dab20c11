//! The decision whether a key is good: the only place that decides.
//!
//! It asks the database for each request, so that a change of a key is in force for the next one, on
//! every instance.

use std::{net::IpAddr, sync::Arc};

use super::last_used::LastUsed;
use crate::{
    core::{
        clock::{Clock, UtcTime},
        error::Error,
        id::{ApiKeyId, UserId},
        scope::{Scope, Scopes},
        security::api_key::{Environment, KeyDigest},
    },
    db::Db,
    models::api_key::{self, KeyFacts},
};

/// Decides about keys. Clones share what it needs.
#[derive(Clone)]
pub struct Engine {
    db: Db,
    clock: Clock,
    last_used: Arc<LastUsed>,
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
pub struct VerifiedKey {
    pub id: ApiKeyId,
    pub user_id: UserId,
    pub name: Option<String>,
    pub environment: Environment,
    pub scopes: Scopes,
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
    pub fn new(db: Db, clock: Clock) -> Self {
        Self {
            last_used: Arc::new(LastUsed::new(db.clone())),
            db,
            clock,
        }
    }

    /// Decides about what a caller presented. An error means that nobody can tell, which opens no
    /// door.
    pub async fn verify(
        &self,
        presented: &str,
        client_ip: Option<IpAddr>,
        scopes: &[Scope],
    ) -> Result<Result<VerifiedKey, Refusal>, Error> {
        let Some(digest) = KeyDigest::of_presented(presented) else {
            return Ok(Err(Refusal::NotFound));
        };
        let stored = self
            .db
            .read(move |conn| api_key::find_by_digest(conn, digest))
            .await?;
        let request = Request {
            // After the database has answered: what ended while it was asked has ended.
            now: self.clock.now(),
            client_ip,
            scopes,
        };
        let decision = decide(stored.as_ref(), &request);
        Ok(match (decision, stored) {
            (Ok(()), Some(key)) => {
                self.last_used.note(key.id, request.now);
                Ok(VerifiedKey {
                    id: key.id,
                    user_id: key.user_id,
                    name: key.name,
                    environment: key.environment,
                    scopes: key.scopes,
                })
            }
            (Ok(()), None) => Err(Refusal::NotFound),
            (Err(refusal), _) => Err(refusal),
        })
    }

    /// When keys were last used, on its way to the database. Whoever runs the engine sees to it that
    /// it gets there: see [`LastUsed::flush_every`].
    pub fn last_used(&self) -> &LastUsed {
        &self.last_used
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
