//! JSON and query parameters in requests about API keys: creation, change, rotation and lists.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    Checks,
    key_limits::{NewQuota, NewRateLimit, Object, QuotaChange, RateLimitChange},
    search_term,
};
use crate::{
    domain::{
        api_key::Environment,
        clock::UtcTime,
        error::Error,
        id::UserId,
        json_object::JsonObject,
        merge_patch::Patch,
        network::{MAX_NETWORKS, Network, Networks},
        scope::{MAX_SCOPES, Scope, Scopes},
    },
    models::{
        api_key::{KeyFilter, KeyStatus},
        key_limits::KeyLimits,
        key_settings::{self, KeyPatch, KeySettings, NewKeySettings},
    },
};

const MAX_NAME_CHARACTERS: usize = 100;
/// Ten years of 365 days.
const MAX_LIFETIME_SECONDS: i64 = 10 * 365 * 24 * 3600;
const MAX_LIFETIME_YEARS: u32 = 10;
/// One week.
const MAX_GRACE_PERIOD_SECONDS: i64 = 7 * 24 * 3600;

/// Settings of a new API key. All fields are optional; the body may be omitted.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "nightly report", "environment": "live", "scopes": ["orders:read"],
    "ip_allowlist": ["127.0.0.1", "203.0.113.0/24"], "expires_in_seconds": 2_592_000,
    "metadata": {"team": "billing"},
}))]
pub(crate) struct CreateApiKey {
    /// Name by which you tell your keys apart: 1 to 100 characters, no control characters.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Environment of the key; `live` by default.
    environment: Option<Environment>,
    /// Scopes of the key: what it may be used for. A scope has segments of letters, digits, `.`, `_` and `-`,
    /// separated by `:`; the last segment may be `*`. `orders:*` covers every scope below `orders:`. `*` covers
    /// every scope except those that begin with `keys:`, which only an admin can grant.
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    scopes: Option<Vec<Scope>>,
    /// First moment at which the key is no longer valid (RFC 3339): in the future, at most ten years ahead. Without
    /// `expires_at` and `expires_in_seconds`, the key is valid until it is revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<UtcTime>,
    /// Lifetime of the key in seconds, as an alternative to `expires_at`.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in_seconds: Option<i64>,
    /// IPv4 and IPv6 addresses and networks from which the key may be used. If omitted or empty, any address.
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    ip_allowlist: Option<Vec<Network>>,
    /// Rate limit of the key. If omitted, the service's default rate limit applies, if there is one.
    #[schema(value_type = Option<NewRateLimit>)]
    rate_limit: Option<Object<NewRateLimit>>,
    /// Quota of the key: how much it may be used in a period. If omitted, there is no quota.
    #[schema(value_type = Option<NewQuota>)]
    quota: Option<Object<NewQuota>>,
    /// Arbitrary data to store with the key: at most 4096 bytes of JSON, at most 32 levels deep. Numbers are stored
    /// as most programs read them: as 64-bit integers, otherwise as doubles.
    metadata: Option<Map<String, Value>>,
}

impl CreateApiKey {
    pub(crate) fn check(self, now: UtcTime) -> Result<(Environment, KeySettings), Error> {
        let mut checks = Checks::default();
        checks.field("/name", self.name.as_deref().map_or(Ok(()), check_name));
        let scopes = checks.field("/scopes", scopes(self.scopes.as_deref()));
        let ip_allowlist = checks.field("/ip_allowlist", networks(self.ip_allowlist.as_deref()));
        let rate_limit = self.rate_limit.and_then(|rate| rate.0.check(&mut checks));
        let quota = self.quota.and_then(|quota| quota.0.check(&mut checks));
        let metadata = checks.field("/metadata", metadata(self.metadata));
        let expires_at = match (self.expires_at, self.expires_in_seconds) {
            (Some(_), Some(_)) => {
                let remedy = "must be omitted if `expires_at` is given";
                checks.field("/expires_in_seconds", Err::<(), _>(remedy));
                None
            }
            (Some(at), None) => checks.field("/expires_at", check_expiry(at, now)),
            (None, Some(seconds)) => {
                let checked = check_seconds(seconds, 1, MAX_LIFETIME_SECONDS);
                let seconds = checks.field("/expires_in_seconds", checked);
                seconds.map(|seconds| now.plus_seconds(seconds))
            }
            (None, None) => None,
        };
        let settings = NewKeySettings {
            name: self.name,
            scopes: scopes.unwrap_or_default(),
            expires_at,
            ip_allowlist: ip_allowlist.unwrap_or_default(),
            limits: KeyLimits::new(rate_limit, quota),
            metadata: metadata.unwrap_or_default(),
        };
        let environment = self.environment.unwrap_or_default();
        checks.finish(Some((environment, settings.into())))
    }
}

/// Changes to an API key: a JSON merge patch (RFC 7396). An omitted field keeps its value, `null` clears it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "billing, read only", "metadata": {"team": null}}))]
pub(crate) struct UpdateApiKey {
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    name: Patch<String>,
    /// `false` disables the key until it is enabled again.
    #[serde(default)]
    #[schema(value_type = bool)]
    enabled: Patch<bool>,
    /// New list of scopes. It replaces the previous list.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    scopes: Patch<Vec<Scope>>,
    /// New expiry (RFC 3339): in the future, at most ten years ahead.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Patch<UtcTime>,
    /// New list of addresses and networks. It replaces the previous list.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    ip_allowlist: Patch<Vec<Network>>,
    #[serde(default)]
    #[schema(value_type = Option<RateLimitChange>)]
    rate_limit: Patch<Object<RateLimitChange>>,
    #[serde(default)]
    #[schema(value_type = Option<QuotaChange>)]
    quota: Patch<Object<QuotaChange>>,
    /// Merge patch (RFC 7396) for the present metadata.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<Map<String, Value>>,
}

impl UpdateApiKey {
    pub(crate) fn check(self, now: UtcTime) -> Result<KeyPatch, Error> {
        let mut checks = Checks::default();
        if let Patch::Set(name) = &self.name {
            checks.field("/name", check_name(name));
        }
        let rate_limit = self.rate_limit.map(|rate| rate.0.check(&mut checks));
        let quota = self.quota.map(|quota| quota.0.check(&mut checks));
        let enabled = checks.never_cleared("/enabled", self.enabled, "must be true or false");
        let patch = KeyPatch {
            name: self.name,
            enabled,
            scopes: checks.patch("/scopes", self.scopes, |list| scopes(Some(&list))),
            expires_at: checks.patch("/expires_at", self.expires_at, |at| check_expiry(at, now)),
            ip_allowlist: checks.patch("/ip_allowlist", self.ip_allowlist, |list| {
                networks(Some(&list))
            }),
            rate_limit,
            quota,
            metadata: self.metadata,
        };
        checks.finish(Some(patch))
    }
}

/// Options of a rotation. The body may be omitted.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"grace_period_seconds": 86_400}))]
pub(crate) struct RotateApiKey {
    /// Time for which the old key remains valid, in seconds, unless it expires earlier. 0 by default: the old key is
    /// revoked immediately.
    #[schema(minimum = 0, maximum = 604_800, default = 0)]
    grace_period_seconds: Option<i64>,
}

impl RotateApiKey {
    pub(crate) fn check(self) -> Result<i64, Error> {
        let mut checks = Checks::default();
        let given = self.grace_period_seconds.unwrap_or(0);
        let checked = check_seconds(given, 0, MAX_GRACE_PERIOD_SECONDS);
        let seconds = checks.field("/grace_period_seconds", checked);
        checks.finish(seconds)
    }
}

/// Filter of a list of the caller's own keys. A key must match all parameters.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OwnKeys {
    status: Option<KeyStatus>,
    environment: Option<Environment>,
    /// Part of the name, case-insensitive.
    q: Option<String>,
}

impl OwnKeys {
    pub(crate) fn check(self, owner: UserId) -> Result<KeyFilter, Error> {
        Ok(KeyFilter {
            user_id: Some(owner),
            status: self.status,
            environment: self.environment,
            name_part: search_term(self.q)?,
        })
    }
}

/// Filter of a list of the keys of all accounts. A key must match all parameters.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AllKeys {
    /// Id of the account that owns the keys.
    user_id: Option<UserId>,
    status: Option<KeyStatus>,
    environment: Option<Environment>,
    /// Part of the name, case-insensitive.
    q: Option<String>,
}

impl AllKeys {
    pub(crate) fn check(self) -> Result<KeyFilter, Error> {
        Ok(KeyFilter {
            user_id: self.user_id,
            status: self.status,
            environment: self.environment,
            name_part: search_term(self.q)?,
        })
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let length = name.chars().count();
    if name.trim().is_empty() || length > MAX_NAME_CHARACTERS || name.chars().any(char::is_control)
    {
        return Err(
            "must be 1 to 100 characters long, not only blanks, without control characters",
        );
    }
    Ok(())
}

fn check_seconds(seconds: i64, least: i64, most: i64) -> Result<i64, String> {
    if (least..=most).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("must be a whole number from {least} to {most}"))
    }
}

fn check_expiry(at: UtcTime, now: UtcTime) -> Result<UtcTime, &'static str> {
    if at > now && at <= now.plus_years(MAX_LIFETIME_YEARS) {
        Ok(at)
    } else {
        Err("must be in the future, at most ten years ahead")
    }
}

fn scopes(list: Option<&[Scope]>) -> Result<Scopes, &'static str> {
    match list.unwrap_or_default() {
        list if list.len() > MAX_SCOPES => Err("must be at most 64 scopes"),
        list => Ok(Scopes::new(list)),
    }
}

fn networks(list: Option<&[Network]>) -> Result<Networks, &'static str> {
    match list.unwrap_or_default() {
        list if list.len() > MAX_NETWORKS => Err("must be at most 64 addresses and networks"),
        list => Ok(Networks::new(list)),
    }
}

fn metadata(object: Option<Map<String, Value>>) -> Result<JsonObject, &'static str> {
    key_settings::metadata(object.unwrap_or_default())
}
