//! JSON and query parameters of usage reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{clock::UtcTime, id::UserId, usage::Granularity},
    services::usage::{Counts, Span, UsageReport},
};

/// Usage of API keys in a time range.
#[derive(Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Number of checks in all buckets.
    total: u64,
    by_outcome: ByOutcome,
    /// All buckets of the time range, oldest first, including empty ones.
    buckets: Vec<UsageBucket>,
}

/// Usage in one hour or one day, in UTC.
#[derive(Serialize, ToSchema)]
struct UsageBucket {
    #[schema(value_type = String, format = DateTime)]
    start: UtcTime,
    total: u64,
    by_outcome: ByOutcome,
}

/// Number of checks per outcome. Outcomes are the codes of `/verify`; those that did not occur are omitted.
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

/// Time range of a usage report: at most 1,000 buckets.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageSpan {
    /// Start of the time range (RFC 3339), rounded down to a bucket. By default 24 hourly or 30 daily buckets before
    /// `to`. A time range has at most 1,000 buckets.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<UtcTime>,
    /// End of the time range (RFC 3339), rounded up to a bucket. By default now.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<UtcTime>,
    /// Length of a bucket; `day` by default. `hour` is available as long as hourly usage is retained: 90 days, unless
    /// configured otherwise.
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

/// Filter of a usage report.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageFilter {
    /// Id of the account whose keys are counted. If omitted, all keys and unknown keys are counted.
    pub(crate) user_id: Option<UserId>,
}
