//! Verification in JSON: what a back end asks of a key, and what it learns.

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

/// The most that one use may count for.
const MAX_COST: u64 = 1_000_000;
/// How many keys one call may ask about.
const MAX_KEYS: usize = 100;

/// A question about a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "api_key": "sk_live_ExampleExampleExampleExample12344Lvtrp",
    "scopes": ["orders:read"], "client_ip": "203.0.113.7",
}))]
pub(crate) struct VerifyKey {
    /// As your client presented it. Anything may stand here: what is no key is `not_found`.
    api_key: String,
    /// What the key must be good for.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    scopes: Option<Vec<Scope>>,
    /// Your client's address. Without it a key that has an allowlist is `ip_not_allowed`.
    #[schema(value_type = Option<String>, example = "203.0.113.7")]
    client_ip: Option<ClientIp>,
    /// What this use takes of the key's rate limit and quota: all of it at once, or it is refused. 0 only
    /// looks: it takes nothing, and is no use of the key.
    #[schema(minimum = 0, maximum = 1_000_000, default = 1)]
    cost: Option<u64>,
}

/// Questions about several keys.
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

    fn check_in(&self, checks: &mut Checks, place: &str) {
        if self
            .scopes
            .as_ref()
            .is_some_and(|scopes| scopes.len() > MAX_SCOPES)
        {
            let at_most = Err::<(), _>("must be at most 64 scopes");
            checks.field(&format!("{place}/scopes"), at_most);
        }
        if self.cost.is_some_and(|cost| cost > MAX_COST) {
            let at_most = Err::<(), _>("must be 0 to 1000000");
            checks.field(&format!("{place}/cost"), at_most);
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
    /// In the order in which they are answered.
    pub(crate) fn check(&self) -> Result<Vec<Question<'_>>, Error> {
        if !(1..=MAX_KEYS).contains(&self.keys.len()) {
            return Err(Error::invalid_field("/keys", "must be 1 to 100 keys"));
        }
        let mut checks = Checks::default();
        for (number, key) in self.keys.iter().enumerate() {
            key.check_in(&mut checks, &format!("/keys/{number}"));
        }
        checks.finish(Some(self.keys.iter().map(VerifyKey::question).collect()))
    }
}

/// What there is to say of a key.
#[derive(Serialize, ToSchema)]
pub(crate) struct Verification<'a> {
    /// Whether to let the client in.
    valid: bool,
    code: Outcome,
    /// The key, if there is one, also if it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<CallingKey<'a>>,
    /// Whose key it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    /// For `insufficient_scope`: what the key would need besides its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["orders:read"]))]
    missing_scopes: Option<&'a [String]>,
    /// If the key has a rate limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimitStatus>,
    /// If the key has a quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaStatus>,
}

/// How it stands with a rate limit.
#[derive(Serialize, ToSchema)]
struct RateLimitStatus {
    limit: u64,
    /// As many may be taken at once.
    remaining: u64,
    /// Until all of it is there again; if the key is `rate_limited`, until what was asked for is.
    reset_seconds: u64,
}

/// How it stands with a quota.
#[derive(Serialize, ToSchema)]
struct QuotaStatus {
    limit: u64,
    /// As many are left, as far as is known: what other instances have in hand is taken.
    remaining: u64,
    /// When the next period begins; null if the quota is for the key's whole life.
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

/// What there is to say of several keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct Verifications<'a> {
    /// In the order of the questions.
    results: Vec<Verification<'a>>,
}

impl<'a> Verifications<'a> {
    pub(crate) fn new(verdicts: &'a [Decision]) -> Self {
        Self {
            results: verdicts.iter().map(Verification::new).collect(),
        }
    }
}
