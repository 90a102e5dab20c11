//! What is counted of the use of keys: how a check ended, and when, by hours or days.

use diesel::{deserialize::FromSqlRow, expression::AsExpression, sql_types::Text};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{clock::UtcTime, text::deserialize_parsed};

/// Whether a key is good, and if not, why: the first that applies.
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
    /// Switched off, or its owner is deactivated.
    Disabled,
    Expired,
    Revoked,
    IpNotAllowed,
    InsufficientScope,
    /// It was used too often lately.
    RateLimited,
    /// It was used as often as it may.
    QuotaExceeded,
}

impl Outcome {
    /// All there are, in the contract's order, which is that of their numbers.
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

    /// The contract's code.
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

    /// The outcome with this code.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == name)
    }
}

/// The beginning of the day that was so many days ago.
pub fn days_before(now: UtcTime, days: u32) -> UtcTime {
    let today = Granularity::Day.start(now);
    today.plus_seconds(-i64::from(days) * Granularity::Day.seconds())
}

/// How long a bucket of usage is.
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
    /// In UTC, no bucket is longer than another.
    pub fn seconds(self) -> i64 {
        match self {
            Self::Hour => 3600,
            Self::Day => 24 * 3600,
        }
    }

    /// When the bucket of this moment began.
    pub fn start(self, at: UtcTime) -> UtcTime {
        at.floor(self.seconds())
    }

    /// When the bucket after this moment begins, or the one of this moment if that is where it begins.
    pub fn end(self, at: UtcTime) -> UtcTime {
        let start = self.start(at);
        match start == at {
            true => at,
            false => start.plus_seconds(self.seconds()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_a_number_and_a_name_of_its_own() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
            assert_eq!(Outcome::from_name(outcome.as_str()), Some(outcome));
        }
        assert_eq!(Outcome::from_name("Valid"), None);
    }

    #[test]
    fn buckets_begin_with_the_hour_and_the_day_in_utc() {
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
