//! API keys in JSON.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{
        api_key::{Environment, PlainApiKey},
        clock::UtcTime,
        id::{ApiKeyId, UserId},
        json_object::JsonObject,
        limit::{Quota, RateLimit},
        network::Networks,
        scope::Scopes,
    },
    models::{
        api_key::{KeyStatus, OwnedKey},
        key_facts::KeyFacts,
    },
};

/// An API key, without the key.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    id: ApiKeyId,
    #[schema(required, example = "billing service")]
    name: Option<String>,
    /// What you recognise the key by: its first characters.
    #[schema(example = "sk_live_Exam")]
    prefix: String,
    environment: Environment,
    status: KeyStatus,
    /// Whether it is switched on.
    enabled: bool,
    /// What it may be used for.
    #[schema(value_type = Vec<String>, example = json!(["orders:read"]))]
    scopes: Scopes,
    /// From where it may be used, in canonical form; from anywhere if there is nothing here.
    #[schema(value_type = Vec<String>, example = json!(["203.0.113.0/24"]))]
    ip_allowlist: Networks,
    /// Its own, shared with the keys that it came from by rotation.
    #[schema(required)]
    rate_limit: Option<RateLimit>,
    #[schema(required)]
    quota: Option<Quota>,
    /// Yours, and means nothing to this service.
    #[schema(value_type = Object, example = json!({"team": "billing"}))]
    metadata: JsonObject,
    #[schema(value_type = String, format = DateTime)]
    created_at: UtcTime,
    /// The first moment at which it is not good any more.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    expires_at: Option<UtcTime>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    revoked_at: Option<UtcTime>,
    /// At most a minute late.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_used_at: Option<UtcTime>,
    /// The key whose successor this is.
    #[schema(required)]
    rotated_from: Option<ApiKeyId>,
}

impl Key {
    pub(crate) fn new(stored: OwnedKey, now: UtcTime) -> Self {
        let status = stored.status(now);
        let OwnedKey { key, .. } = stored;
        let settings = key.settings;
        Self {
            id: key.id,
            name: settings.name,
            prefix: key.prefix,
            environment: key.environment,
            status,
            enabled: settings.enabled,
            scopes: settings.scopes,
            ip_allowlist: settings.ip_allowlist,
            rate_limit: settings.limits.rate_limit(),
            quota: settings.limits.quota(),
            metadata: settings.metadata,
            created_at: key.created_at,
            expires_at: settings.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            rotated_from: key.rotated_from,
        }
    }
}

/// Anybody's API key, as an operator sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnybodysKey {
    /// Whose it is.
    user_id: UserId,
    #[serde(flatten)]
    key: Key,
}

impl AnybodysKey {
    pub(crate) fn new(stored: OwnedKey, now: UtcTime) -> Self {
        Self {
            user_id: stored.key.user_id,
            key: Key::new(stored, now),
        }
    }
}

/// A new API key: the only answer that ever shows it whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedApiKey {
    /// The whole key. Keep it: it is not stored and cannot be shown again.
    #[schema(example = "sk_live_ExampleExampleExampleExample12344Lvtrp")]
    api_key: String,
    #[serde(flatten)]
    key: Key,
}

impl CreatedApiKey {
    pub(crate) fn new(plain: &PlainApiKey, stored: OwnedKey, now: UtcTime) -> Self {
        Self {
            api_key: plain.expose().to_owned(),
            key: Key::new(stored, now),
        }
    }
}

/// What the example of a protected endpoint answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Protected<'a> {
    #[schema(example = "The key is good.")]
    pub(crate) message: &'static str,
    pub(crate) key: CallingKey<'a>,
    /// Whose key it is.
    pub(crate) user_id: UserId,
}

/// The key that a request was made with.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallingKey<'a> {
    id: ApiKeyId,
    #[schema(required, example = "billing service")]
    name: Option<&'a str>,
    environment: Environment,
    #[schema(value_type = Vec<String>, example = json!(["orders:read"]))]
    scopes: &'a Scopes,
}

impl<'a> CallingKey<'a> {
    pub(crate) fn new(key: &'a KeyFacts) -> Self {
        Self {
            id: key.id,
            name: key.name.as_deref(),
            environment: key.environment,
            scopes: &key.scopes,
        }
    }
}
