//! Vocabulary of usage counts: outcomes of checks, and buckets of hours and days.

use diesel::{deserialize::FromSqlRow, expression::AsExpression, sql_types::Text};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{clock::UtcTime, text::deserialize_parsed};

/// Outcome of a check: `valid`, or the first reason that applies, in this order.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    ToSchema,
    AsExpression,
    FromSqlRow,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = VerificationCode)]
#[diesel(sql_type = Text)]
pub enum Outcome {
    Valid,
    /// Malformed, mistyped, or never issued.
    NotFound,
    /// The key is disabled, or its owner is deactivated.
    Disabled,
    Expired,
    Revoked,
    IpNotAllowed,
    InsufficientScope,
    /// The rate limit is exhausted.
    RateLimited,
    /// The quota is used up.
    QuotaExceeded,
}

impl Outcome {
    /// All outcomes, in the order in which they are checked. The index equals the discriminant.
    pub const ALL: [Self; 9] = [
        Self::Valid,
        Self::NotFound,
        Self::Disabled,
        Self::Expired,
        Self::Revoked,
        Self::IpNotAllowed,
        Self::InsufficientScope,
        Self::RateLimited,
        Self::QuotaExceeded,
    ];

    /// Returns the code, which is the same in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotFound => "not_found",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::InsufficientScope => "insufficient_scope",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
        }
    }

    /// Returns the outcome with this code.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == name)
    }
}

/// Returns the start of the day that is `days` days before today.
pub fn days_before(now: UtcTime, days: u32) -> UtcTime {
    let today = Granularity::Day.start(now);
    today.plus_seconds(-i64::from(days) * Granularity::Day.seconds())
}

/// Length of a bucket of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    Hour,
    Day,
}

impl<'de> Deserialize<'de> for Granularity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer, |name| match name {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err("must be `hour` or `day`"),
        })
    }
}

impl Granularity {
    /// Returns the length of a bucket. In UTC all buckets of a granularity have the same length.
    pub fn seconds(self) -> i64 {
        match self {
            Self::Hour => 3600,
            Self::Day => 24 * 3600,
        }
    }

    /// Returns the start of the bucket that contains this moment.
    pub fn start(self, at: UtcTime) -> UtcTime {
        at.floor(self.seconds())
    }

    /// Rounds up to the start of a bucket: returns the moment itself if a bucket starts there.
    pub fn end(self, at: UtcTime) -> UtcTime {
        let start = self.start(at);
        if start == at {
            at
        } else {
            start.plus_seconds(self.seconds())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_has_a_unique_number_and_name() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            assert_eq!(Outcome::from_name(outcome.as_str()), Some(outcome));
        }
        assert_eq!(Outcome::from_name("Valid"), None);
    }

    #[test]
    fn bucket_starts_and_ends_with_the_hour_or_day_in_utc() {
        let at = |text: &str| UtcTime::parse(text).expect(text);
        for (granularity, moment, start, end) in [
            (
                Granularity::Hour,
                "2026-11-25T13:59:59.999999Z",
                "2026-11-25T13:00:00Z",
                "2026-11-25T14:00:00Z",
            ),
            (
                Granularity::Hour,
                "2026-11-25T13:00:00Z",
                "2026-11-25T13:00:00Z",
                "2026-11-25T13:00:00Z",
            ),
            (
                Granularity::Day,
                "2026-12-31T23:59:59Z",
                "2026-12-31T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                Granularity::Day,
                "1969-12-31T23:00:00Z",
                "1969-12-31T00:00:00Z",
                "1970-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(granularity.start(at(moment)), at(start), "{moment}");
            assert_eq!(granularity.end(at(moment)), at(end), "{moment}");
        }
    }
}
