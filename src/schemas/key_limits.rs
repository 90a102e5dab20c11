//! What a person asks for of a key's limits.

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

/// So many uses in a window, and all of them at once if there were none for as long; they come back
/// evenly. Rotated keys share it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limit": 100, "window_seconds": 60}))]
pub(crate) struct NewRateLimit {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_i64)]
    limit: i64,
    #[schema(minimum = 1, maximum = 86_400)]
    window_seconds: i64,
}

/// So many uses in a day or a month of the calendar in UTC, or in all. Rotated keys share it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limit": 10_000, "period": "month"}))]
pub(crate) struct NewQuota {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_i64)]
    limit: i64,
    period: Period,
}

/// What changes of a rate limit, of all keys that came from one another by rotation. What was used stays
/// used.
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

/// What changes of a quota, of all keys that came from one another by rotation. What was used stays used.
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

/// A struct in JSON's form of one, an object. Serde would read its fields from an array as well.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnObject<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AnObject<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer
            .deserialize_map(AnObject(PhantomData))
            .map(Self)
    }
}
