//! JSON of key verification: requests and results.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{Checks, api_key::CallingKey};
use crate::{
    domain::{
        clock::UtcTime,
        error::Error,
        id::UserId,
        scope::{MAX_SCOPES, Scope},
        text::deserialize_parsed,
        usage::Outcome,
    },
    verification::engine::{Decision, Question, Rejection},
};

/// Maximum cost of one use.
const MAX_COST: u64 = 1_000_000;
/// Maximum number of keys per call.
const MAX_KEYS: usize = 100;

/// API key to verify, with the requirements.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "api_key": "sk_live_ExampleExampleExampleExample12344Lvtrp",
    "scopes": ["orders:read"], "client_ip": "203.0.113.7",
}))]
pub(crate) struct VerifyKey {
    /// Key as your client presented it. Any string is accepted: one that is not a key gives `not_found`.
    api_key: String,
    /// Scopes that the key must have.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    scopes: Option<Vec<Scope>>,
    /// IP address of your client. Without it, a key that has an allowlist gives `ip_not_allowed`.
    #[schema(value_type = Option<String>, example = "203.0.113.7")]
    client_ip: Option<ClientIp>,
    /// Cost of this use: taken from the key's rate limit and quota as a whole, or the use is denied and nothing is
    /// taken. 0 only checks the key: nothing is taken, and it does not count as a use.
    #[schema(minimum = 0, maximum = 1_000_000, default = 1)]
    cost: Option<u64>,
}

/// API keys to verify in one call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"keys": [
    {"api_key": "sk_live_ExampleExampleExampleExample12344Lvtrp"},
    {"api_key": "sk_live_ExampleExampleExampleExample12344Lvtrp", "cost": 0},
]}))]
pub(crate) struct VerifyKeys {
    #[schema(min_items = 1, max_items = 100)]
    keys: Vec<VerifyKey>,
}

#[derive(Clone, Copy)]
struct ClientIp(IpAddr);

impl<'de> Deserialize<'de> for ClientIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| text.parse().map_err(|_| "must be an IPv4 or IPv6 address");
        deserialize_parsed(deserializer, parse).map(Self)
    }
}

impl VerifyKey {
    pub(crate) fn check(&self) -> Result<Question<'_>, Error> {
        let mut checks = Checks::default();
        self.check_in(&mut checks, "");
        checks.finish(Some(self.question()))
    }

    fn check_in(&self, checks: &mut Checks, parent: &str) {
        if self
            .scopes
            .as_ref()
            .is_some_and(|scopes| scopes.len() > MAX_SCOPES)
        {
            let remedy = Err::<(), _>("must be at most 64 scopes");
            checks.field(&format!("{parent}/scopes"), remedy);
        }
        if self.cost.is_some_and(|cost| cost > MAX_COST) {
            let remedy = Err::<(), _>("must be 0 to 1000000");
            checks.field(&format!("{parent}/cost"), remedy);
        }
    }

    fn question(&self) -> Question<'_> {
        Question {
            presented: &self.api_key,
            client_ip: self.client_ip.map(|ip| ip.0),
            scopes: self.scopes.as_deref().unwrap_or_default(),
            cost: self.cost.unwrap_or(1),
        }
    }
}

impl VerifyKeys {
    /// Checks all keys. Returns them in the order of the results.
    pub(crate) fn check(&self) -> Result<Vec<Question<'_>>, Error> {
        if !(1..=MAX_KEYS).contains(&self.keys.len()) {
            return Err(Error::invalid_field("/keys", "must be 1 to 100 keys"));
        }
        let mut checks = Checks::default();
        for (index, key) in self.keys.iter().enumerate() {
            key.check_in(&mut checks, &format!("/keys/{index}"));
        }
        checks.finish(Some(self.keys.iter().map(VerifyKey::question).collect()))
    }
}

/// Result of the verification of an API key.
#[derive(Serialize, ToSchema)]
pub(crate) struct Verification<'a> {
    /// True if the client may be let in.
    valid: bool,
    code: Outcome,
    /// The key, if it exists, even if it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<CallingKey<'a>>,
    /// Id of the account that owns the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    /// For `insufficient_scope`: the required scopes that the key lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["orders:read"]))]
    missing_scopes: Option<&'a [String]>,
    /// Status of the rate limit, if the key has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimitStatus>,
    /// Status of the quota, if the key has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaStatus>,
}

/// Status of a rate limit.
#[derive(Serialize, ToSchema)]
struct RateLimitStatus {
    limit: u64,
    /// Number of tokens that can be taken now.
    remaining: u64,
    /// Seconds until all tokens are available; with `rate_limited`, until the requested cost is.
    reset_seconds: u64,
}

/// Status of a quota.
#[derive(Serialize, ToSchema)]
struct QuotaStatus {
    limit: u64,
    /// Number of units that are left. Blocks of units that other instances have taken count as used.
    remaining: u64,
    /// Start of the next period. `null` if the period is `total`.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    resets_at: Option<UtcTime>,
}

impl<'a> Verification<'a> {
    pub(crate) fn new(decision: &'a Decision) -> Self {
        let missing_scopes = match &decision.refusal {
            Some(Rejection::InsufficientScope(missing)) => Some(&**missing),
            _ => None,
        };
        Self {
            valid: decision.refusal.is_none(),
            code: Outcome::of(decision.refusal.as_ref()),
            key: decision.key.as_deref().map(|key| CallingKey::new(key)),
            user_id: decision.key.as_ref().map(|key| key.user_id),
            missing_scopes,
            rate_limit: decision.status.rate.map(|rate| RateLimitStatus {
                limit: rate.limit.limit(),
                remaining: rate.remaining,
                reset_seconds: rate.reset_seconds,
            }),
            quota: decision.status.quota.map(|quota| QuotaStatus {
                limit: quota.quota.limit(),
                remaining: quota.remaining,
                resets_at: quota.resets_at,
            }),
        }
    }
}

/// Results of the verification of several API keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct Verifications<'a> {
    /// Results in the order of `keys`.
    results: Vec<Verification<'a>>,
}

impl<'a> Verifications<'a> {
    pub(crate) fn new(decisions: &'a [Decision]) -> Self {
        Self {
            results: decisions.iter().map(Verification::new).collect(),
        }
    }
}
