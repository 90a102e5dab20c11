//! Limits of a key, as stored in `api_keys`.

use diesel::prelude::*;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::{
    db::schema::api_keys,
    domain::limit::{Period, Quota, RateLimit},
};

/// Rate limit and quota of a key. Either may be missing.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset,
)]
#[diesel(table_name = api_keys, treat_none_as_null = true)]
pub struct KeyLimits {
    rate_limit: Option<i64>,
    rate_window_seconds: Option<i64>,
    quota_limit: Option<i64>,
    quota_period: Option<Period>,
}

impl KeyLimits {
    pub fn new(rate_limit: Option<RateLimit>, quota: Option<Quota>) -> Self {
        // Limits are at most 2^53.
        let signed = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
        Self {
            rate_limit: rate_limit.map(|rate| signed(rate.limit())),
            rate_window_seconds: rate_limit.map(|rate| rate.window_seconds().into()),
            quota_limit: quota.map(|quota| signed(quota.limit())),
            quota_period: quota.map(|quota| quota.period()),
        }
    }

    // The CHECK constraints of the table admit no value that these two cannot parse.

    pub fn rate_limit(&self) -> Option<RateLimit> {
        let window = u32::try_from(self.rate_window_seconds?).ok()?;
        RateLimit::new(u64::try_from(self.rate_limit?).ok()?, window)
    }

    pub fn quota(&self) -> Option<Quota> {
        Quota::new(u64::try_from(self.quota_limit?).ok()?, self.quota_period?)
    }
}

/// Serializes the limits in the form that the API shows.
impl Serialize for KeyLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(2))?;
        members.serialize_entry("rate_limit", &self.rate_limit())?;
        members.serialize_entry("quota", &self.quota())?;
        members.end()
    }
}
