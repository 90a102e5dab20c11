//! The decision whether a key is good: the only place that decides.
//!
//! It asks the database for each request, so that a key that was revoked is refused by the next one,
//! on every instance.

use crate::{
    core::{
        error::Error,
        id::{ApiKeyId, UserId},
        security::api_key::{Environment, KeyDigest},
    },
    db::Db,
    models::api_key::{self, ApiKey},
};

/// Decides about keys. Clones share what it needs.
#[derive(Clone)]
pub struct Engine {
    db: Db,
}

/// A key that was found good, and for whom it speaks.
#[derive(Debug, Clone)]
pub struct VerifiedKey {
    pub id: ApiKeyId,
    pub user_id: UserId,
    pub name: Option<String>,
    pub environment: Environment,
}

/// Why a key is not good. The caller is not told which: that goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Malformed, mistyped, or never issued.
    NotFound,
    /// Revoked by its owner.
    Revoked,
}

impl Refusal {
    /// The contract's code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Revoked => "revoked",
        }
    }
}

impl Engine {
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Decides about what a caller presented. An error means that nobody can tell, which opens no
    /// door.
    pub async fn verify(&self, presented: &str) -> Result<Result<VerifiedKey, Refusal>, Error> {
        let Some(digest) = KeyDigest::of_presented(presented) else {
            return Ok(Err(Refusal::NotFound));
        };
        let stored = self
            .db
            .read(move |conn| api_key::find_by_digest(conn, digest))
            .await?;
        Ok(decide(stored))
    }
}

/// The first reason to refuse, in the contract's order.
fn decide(stored: Option<ApiKey>) -> Result<VerifiedKey, Refusal> {
    let key = stored.ok_or(Refusal::NotFound)?;
    if key.revoked_at.is_some() {
        return Err(Refusal::Revoked);
    }
    Ok(VerifiedKey {
        id: key.id,
        user_id: key.user_id,
        name: key.name,
        environment: key.environment,
    })
}
