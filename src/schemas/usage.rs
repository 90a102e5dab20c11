//! Usage in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{clock::UtcTime, id::UserId, usage::Granularity},
    services::usage::{Counts, Span, UsageReport},
};

/// How keys were used.
#[derive(Serialize, ToSchema)]
pub(crate) struct Usage {
    /// How many checks there were in all buckets together.
    total: u64,
    by_outcome: ByOutcome,
    /// All of the span, the oldest first; also those with nothing in them.
    buckets: Vec<UsageBucket>,
}

/// An hour or a day in UTC.
#[derive(Serialize, ToSchema)]
struct UsageBucket {
    #[schema(value_type = String, format = DateTime)]
    start: UtcTime,
    total: u64,
    by_outcome: ByOutcome,
}

/// How many checks ended how: `valid`, or a code of `/verify`. What did not occur is left out.
#[derive(Serialize, ToSchema)]
#[schema(value_type = BTreeMap<String, u64>, example = json!({"valid": 41, "rate_limited": 1}))]
struct ByOutcome(BTreeMap<&'static str, u64>);

impl ByOutcome {
    fn new(counts: &Counts) -> Self {
        let named = counts
            .iter()
            .map(|(outcome, count)| (outcome.as_str(), *count));
        Self(named.collect())
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl From<UsageReport> for Usage {
    fn from(report: UsageReport) -> Self {
        let by_outcome = ByOutcome::new(&report.by_outcome());
        let bucket = |(start, counts): &(UtcTime, Counts)| {
            let by_outcome = ByOutcome::new(counts);
            UsageBucket {
                start: *start,
                total: by_outcome.total(),
                by_outcome,
            }
        };
        Self {
            total: by_outcome.total(),
            by_outcome,
            buckets: report.buckets.iter().map(bucket).collect(),
        }
    }
}

/// For when usage is asked: at most 1,000 buckets.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageSpan {
    /// From the bucket of this moment on (RFC 3339). If left out, as many buckets before `to` as make 24
    /// hours or 30 days.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<UtcTime>,
    /// Before this moment (RFC 3339), and to the end of its bucket. If left out, now.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<UtcTime>,
    /// How long a bucket is; `day` if left out. `hour` for as long as usage is kept by the hour, 90 days
    /// unless the service is set otherwise.
    granularity: Option<Granularity>,
}

impl UsageSpan {
    pub(crate) fn span(&self) -> Span {
        Span {
            from: self.from,
            to: self.to,
            granularity: self.granularity.unwrap_or(Granularity::Day),
        }
    }
}

/// Of whose keys.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhoseUsage {
    /// Only of keys that belong to this account. If left out, of all, and of what is no key.
    pub(crate) user_id: Option<UserId>,
}
