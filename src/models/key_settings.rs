//! What an owner chooses of a key and may change later.

use diesel::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use super::key_limits::KeyLimits;
use crate::{
    db::schema::api_keys,
    domain::{
        clock::UtcTime,
        error::FieldError,
        json_object::JsonObject,
        limit::{Period, Quota, RateLimit},
        merge_patch::{self, Patch},
        network::Networks,
        scope::Scopes,
        text::fold,
    },
};

/// How large metadata may be, in bytes of JSON without blanks.
const MAX_METADATA_BYTES: usize = 4096;
/// How many objects and lists may stand one in another. What holds metadata, such as an event of the
/// audit log, is read again by a parser that takes no more than 127.
const MAX_METADATA_DEPTH: usize = 32;

/// Metadata with these members, unless that is too much.
pub fn metadata(members: Map<String, Value>) -> Result<JsonObject, &'static str> {
    if members
        .values()
        .any(|member| depth(member) >= MAX_METADATA_DEPTH)
    {
        return Err("must be at most 32 levels deep");
    }
    let object = JsonObject::from(members);
    match object.size() <= MAX_METADATA_BYTES {
        true => Ok(object),
        false => Err("must be at most 4096 bytes of JSON"),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The columns that a change may touch. In JSON they are what the audit log tells of.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable, Insertable, AsChangeset,
)]
#[diesel(table_name = api_keys, treat_none_as_null = true)]
pub struct KeySettings {
    pub name: Option<String>,
    /// The name as it is searched for.
    #[serde(skip)]
    name_folded: Option<String>,
    pub enabled: bool,
    pub scopes: Scopes,
    pub expires_at: Option<UtcTime>,
    pub ip_allowlist: Networks,
    /// Those of the whole lineage: a change of one is a change of all.
    #[diesel(embed)]
    #[serde(flatten)]
    pub limits: KeyLimits,
    pub metadata: JsonObject,
}

/// What a person chooses of a new key.
#[derive(Debug, Default)]
pub struct NewKeySettings {
    pub name: Option<String>,
    pub scopes: Scopes,
    pub expires_at: Option<UtcTime>,
    pub ip_allowlist: Networks,
    pub limits: KeyLimits,
    pub metadata: JsonObject,
}

impl From<NewKeySettings> for KeySettings {
    fn from(chosen: NewKeySettings) -> Self {
        Self {
            name_folded: chosen.name.as_deref().map(fold),
            name: chosen.name,
            enabled: true,
            scopes: chosen.scopes,
            expires_at: chosen.expires_at,
            ip_allowlist: chosen.ip_allowlist,
            limits: chosen.limits,
            metadata: chosen.metadata,
        }
    }
}

/// A checked merge patch of the settings (RFC 7396). What is cleared has its default again.
#[derive(Debug, Clone, Default)]
pub struct KeyPatch {
    pub name: Patch<String>,
    pub enabled: Option<bool>,
    pub scopes: Patch<Scopes>,
    pub expires_at: Patch<UtcTime>,
    pub ip_allowlist: Patch<Networks>,
    pub rate_limit: Patch<RateLimitPatch>,
    pub quota: Patch<QuotaPatch>,
    pub metadata: Patch<Map<String, Value>>,
}

impl KeyPatch {
    /// Returns whether it disables the key and does nothing else.
    pub fn only_disables(&self) -> bool {
        matches!(
            self,
            Self {
                name: Patch::Keep,
                enabled: Some(false),
                scopes: Patch::Keep,
                expires_at: Patch::Keep,
                ip_allowlist: Patch::Keep,
                rate_limit: Patch::Keep,
                quota: Patch::Keep,
                metadata: Patch::Keep,
            }
        )
    }
}

/// A checked patch of a rate limit. A member that is left out stays, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitPatch {
    pub limit: Option<u64>,
    pub window_seconds: Option<u32>,
}

/// The same of a quota.
#[derive(Debug, Clone, Copy)]
pub struct QuotaPatch {
    pub limit: Option<u64>,
    pub period: Option<Period>,
}

impl RateLimitPatch {
    /// The rate limit as it is afterwards, or what would do.
    pub fn apply(&self, before: Option<RateLimit>) -> Result<RateLimit, FieldError> {
        let limit = self.limit.or(before.map(|rate| rate.limit()));
        let limit = limit.ok_or_else(|| missing("/rate_limit/limit"))?;
        let window = self
            .window_seconds
            .or(before.map(|rate| rate.window_seconds()));
        window
            .and_then(|window| RateLimit::new(limit, window))
            .ok_or_else(|| missing("/rate_limit/window_seconds"))
    }
}

impl QuotaPatch {
    /// The quota as it is afterwards, or what would do.
    pub fn apply(&self, before: Option<Quota>) -> Result<Quota, FieldError> {
        let limit = self.limit.or(before.map(|quota| quota.limit()));
        let period = self.period.or(before.map(|quota| quota.period()));
        let period = period.ok_or_else(|| missing("/quota/period"))?;
        limit
            .and_then(|limit| Quota::new(limit, period))
            .ok_or_else(|| missing("/quota/limit"))
    }
}

/// What is patched has no such member yet.
fn missing(pointer: &str) -> FieldError {
    FieldError::of(pointer, "is required")
}

impl KeyPatch {
    /// The settings as they are afterwards, or what would do.
    pub fn apply(self, before: &KeySettings) -> Result<KeySettings, FieldError> {
        let broken = |remedy| FieldError::of("/metadata", remedy);
        let rate_limit = before.limits.rate_limit();
        let rate_limit = match self.rate_limit {
            Patch::Keep => rate_limit,
            Patch::Clear => None,
            Patch::Set(patch) => Some(patch.apply(rate_limit)?),
        };
        let quota = before.limits.quota();
        let quota = match self.quota {
            Patch::Keep => quota,
            Patch::Clear => None,
            Patch::Set(patch) => Some(patch.apply(quota)?),
        };
        let metadata = match self.metadata {
            Patch::Keep => before.metadata.clone(),
            Patch::Clear => JsonObject::default(),
            Patch::Set(patch) => {
                let stored = before.metadata.members();
                let mut members =
                    stored.map_err(|_| broken("is stored in a broken form; clear it first"))?;
                merge_patch::merge(&mut members, patch);
                metadata(members).map_err(broken)?
            }
        };
        let name = optional(self.name, &before.name);
        Ok(KeySettings {
            name_folded: name.as_deref().map(fold),
            name,
            enabled: self.enabled.unwrap_or(before.enabled),
            scopes: or_default(self.scopes, &before.scopes),
            expires_at: optional(self.expires_at, &before.expires_at),
            ip_allowlist: or_default(self.ip_allowlist, &before.ip_allowlist),
            limits: KeyLimits::new(rate_limit, quota),
            metadata,
        })
    }
}

fn optional<T: Clone>(patch: Patch<T>, before: &Option<T>) -> Option<T> {
    match patch {
        Patch::Keep => before.clone(),
        Patch::Clear => None,
        Patch::Set(value) => Some(value),
    }
}

fn or_default<T: Clone + Default>(patch: Patch<T>, before: &T) -> T {
    match patch {
        Patch::Keep => before.clone(),
        Patch::Clear => T::default(),
        Patch::Set(value) => value,
    }
}
