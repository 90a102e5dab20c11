//! JSON of API keys in responses.

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

/// API key object. It does not contain the key itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    id: ApiKeyId,
    #[schema(required, example = "billing service")]
    name: Option<String>,
    /// First characters of the key, by which a person recognises it.
    #[schema(example = "sk_live_Exam")]
    prefix: String,
    environment: Environment,
    status: KeyStatus,
    /// False if the owner has disabled the key.
    enabled: bool,
    /// Scopes of the key: what it may be used for.
    #[schema(value_type = Vec<String>, example = json!(["orders:read"]))]
    scopes: Scopes,
    /// Addresses and networks from which the key may be used, in canonical form. Empty: any address.
    #[schema(value_type = Vec<String>, example = json!(["203.0.113.0/24"]))]
    ip_allowlist: Networks,
    /// Rate limit of the key, shared by all keys of its rotation lineage. `null`: the service's default rate limit,
    /// if there is one.
    #[schema(required)]
    rate_limit: Option<RateLimit>,
    /// Quota of the key, shared by all keys of its rotation lineage. `null`: no quota.
    #[schema(required)]
    quota: Option<Quota>,
    /// Arbitrary data of the owner, which the service does not interpret.
    #[schema(value_type = Object, example = json!({"team": "billing"}))]
    metadata: JsonObject,
    #[schema(value_type = String, format = DateTime)]
    created_at: UtcTime,
    /// First moment at which the key is no longer valid. `null`: no expiry is set.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    expires_at: Option<UtcTime>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    revoked_at: Option<UtcTime>,
    /// Time of the last use, at most 60 seconds behind. `null`: never used.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_used_at: Option<UtcTime>,
    /// Id of the key that this key succeeds by rotation.
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

/// API key of any account, as an operator sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnybodysKey {
    /// Id of the account that owns the key.
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

/// New API key. Only this response contains the whole key.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedApiKey {
    /// The whole key. Store it safely: the service does not store it and cannot show it again.
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

/// Response of the example of a protected endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct Protected<'a> {
    #[schema(example = "The key is valid.")]
    pub(crate) message: &'static str,
    pub(crate) key: CallingKey<'a>,
    /// Id of the account that owns the key.
    pub(crate) user_id: UserId,
}

/// API key that a client presented.
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
