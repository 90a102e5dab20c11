//! JSON of an API key's limits in requests.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::ToSchema;

use super::Checks;
use crate::{
    domain::{
        limit::{LIMITS, Period, Quota, RateLimit, WINDOWS},
        merge_patch::Patch,
    },
    models::key_settings::{QuotaPatch, RateLimitPatch},
};

/// Rate limit: `limit` tokens per `window_seconds`, which are refilled evenly. After a window without a use, all
/// tokens can be used at once. The keys of a rotation lineage share the tokens.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limit": 100, "window_seconds": 60}))]
pub(crate) struct NewRateLimit {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_i64)]
    limit: i64,
    #[schema(minimum = 1, maximum = 86_400)]
    window_seconds: i64,
}

/// Quota: `limit` uses per calendar day or month in UTC, or in total. The keys of a rotation lineage share the
/// quota.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limit": 10_000, "period": "month"}))]
pub(crate) struct NewQuota {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_i64)]
    limit: i64,
    period: Period,
}

/// Changes to the rate limit of all keys of a rotation lineage. Previous uses still count.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limit": 200}))]
pub(crate) struct RateLimitChange {
    #[serde(default)]
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_992_i64)]
    limit: Patch<i64>,
    #[serde(default)]
    #[schema(value_type = i64, minimum = 1, maximum = 86_400)]
    window_seconds: Patch<i64>,
}

/// Changes to the quota of all keys of a rotation lineage. Previous uses still count.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limit": 20_000}))]
pub(crate) struct QuotaChange {
    #[serde(default)]
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_992_i64)]
    limit: Patch<i64>,
    #[serde(default)]
    #[schema(value_type = Period)]
    period: Patch<Period>,
}

impl NewRateLimit {
    pub(super) fn check(&self, checks: &mut Checks) -> Option<RateLimit> {
        let limit = checks.field("/rate_limit/limit", LIMITS.check(self.limit));
        let window = WINDOWS.check(self.window_seconds);
        let window = checks.field("/rate_limit/window_seconds", window);
        RateLimit::new(limit?, window?)
    }
}

impl NewQuota {
    pub(super) fn check(&self, checks: &mut Checks) -> Option<Quota> {
        let limit = checks.field("/quota/limit", LIMITS.check(self.limit));
        Quota::new(limit?, self.period)
    }
}

impl RateLimitChange {
    pub(super) fn check(self, checks: &mut Checks) -> RateLimitPatch {
        RateLimitPatch {
            limit: checks
                .required_patch("/rate_limit/limit", self.limit, |limit| LIMITS.check(limit)),
            window_seconds: checks.required_patch(
                "/rate_limit/window_seconds",
                self.window_seconds,
                |window| WINDOWS.check(window),
            ),
        }
    }
}

impl QuotaChange {
    pub(super) fn check(self, checks: &mut Checks) -> QuotaPatch {
        QuotaPatch {
            limit: checks.required_patch("/quota/limit", self.limit, |limit| LIMITS.check(limit)),
            period: checks.required_patch("/quota/period", self.period, Ok::<_, String>),
        }
    }
}

/// Struct that is read from a JSON object only. Serde would also read its fields from an array.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer
            .deserialize_map(ObjectVisitor(PhantomData))
            .map(Self)
    }
}
