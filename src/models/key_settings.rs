//! Settings of a key that its owner chooses and can change later.

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

/// Maximum size of metadata, in bytes of JSON without whitespace.
const MAX_METADATA_BYTES: usize = 4096;
/// Maximum depth of nested objects and arrays in metadata.
///
/// Documents that contain metadata, such as events of the audit log, are parsed by a parser with a limit of 127.
const MAX_METADATA_DEPTH: usize = 32;

/// Returns metadata with these members. The error says which limit they exceed.
pub fn metadata(members: Map<String, Value>) -> Result<JsonObject, &'static str> {
    if members
        .values()
        .any(|member| depth(member) >= MAX_METADATA_DEPTH)
    {
        return Err("must be at most 32 levels deep");
    }
    let object = JsonObject::from(members);
    if object.size() <= MAX_METADATA_BYTES {
        Ok(object)
    } else {
        Err("must be at most 4096 bytes of JSON")
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Columns that the owner can change. In JSON they are the form in which the audit log records a change.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable, Insertable, AsChangeset,
)]
#[diesel(table_name = api_keys, treat_none_as_null = true)]
pub struct KeySettings {
    pub name: Option<String>,
    /// Case-folded name, for search.
    #[serde(skip)]
    name_folded: Option<String>,
    pub enabled: bool,
    pub scopes: Scopes,
    pub expires_at: Option<UtcTime>,
    pub ip_allowlist: Networks,
    /// Limits of the whole lineage: a change applies to all of its keys.
    #[diesel(embed)]
    #[serde(flatten)]
    pub limits: KeyLimits,
    pub metadata: JsonObject,
}

/// Settings that a user chooses for a new key.
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

/// Validated merge patch of the settings (RFC 7396). A cleared setting gets its default.
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
    /// Returns whether the patch disables the key and changes nothing else.
    pub fn is_only_disabling(&self) -> bool {
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

/// Validated patch of a rate limit. A missing member keeps its value, if the key has a rate limit.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitPatch {
    pub limit: Option<u64>,
    pub window_seconds: Option<u32>,
}

/// Validated patch of a quota. A missing member keeps its value, if the key has a quota.
#[derive(Debug, Clone, Copy)]
pub struct QuotaPatch {
    pub limit: Option<u64>,
    pub period: Option<Period>,
}

impl RateLimitPatch {
    /// Returns the patched rate limit. Fails if a required member is missing.
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
    /// Returns the patched quota. Fails if a required member is missing.
    pub fn apply(&self, before: Option<Quota>) -> Result<Quota, FieldError> {
        let limit = self.limit.or(before.map(|quota| quota.limit()));
        let period = self.period.or(before.map(|quota| quota.period()));
        let period = period.ok_or_else(|| missing("/quota/period"))?;
        limit
            .and_then(|limit| Quota::new(limit, period))
            .ok_or_else(|| missing("/quota/limit"))
    }
}

/// Returns the error about a member that the patch omits and the key does not have.
fn missing(pointer: &str) -> FieldError {
    FieldError::of(pointer, "is required")
}

impl KeyPatch {
    /// Returns the patched settings. The error names the invalid field and what it must be.
    pub fn apply(self, before: &KeySettings) -> Result<KeySettings, FieldError> {
        let invalid_metadata = |remedy| FieldError::of("/metadata", remedy);
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
                let mut members = stored.map_err(|_| {
                    invalid_metadata("is stored in an invalid form; set it to null first")
                })?;
                merge_patch::merge(&mut members, patch);
                metadata(members).map_err(invalid_metadata)?
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
