//! Limits on the use of a key: rate limit per time window, and quota per calendar period.

use std::str::FromStr;

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{clock::UtcTime, text::deserialize_parsed};

/// Bounds of limits. Up to the maximum (2^53), every integer is exact in JSON for most programs (RFC 8259 section 6),
/// and in Redis's Lua.
pub const LIMITS: Bounds<u64> = Bounds {
    max: 1 << 53,
    remedy: "must be a whole number from 1 to 9007199254740992",
};
/// Bounds of windows, in seconds: up to one day.
pub const WINDOWS: Bounds<u32> = Bounds {
    max: 24 * 3600,
    remedy: "must be a whole number from 1 to 86400",
};

/// An instance prefetches at most this fraction (1/16) of what is left of a limit: when a limit is nearly
/// used up, no instance holds tokens that another one needs.
pub const PREFETCH_FRACTION: u64 = 16;

/// Range of numbers from 1 to a maximum.
pub struct Bounds<T> {
    max: T,
    /// Error text for a number outside of the bounds, which says what would be accepted.
    pub remedy: &'static str,
}

impl<T: Copy + PartialOrd + From<u8> + TryFrom<i64>> Bounds<T> {
    fn contain(&self, number: T) -> bool {
        number >= T::from(1) && number <= self.max
    }

    /// Returns the number if it is within the bounds.
    pub fn check(&self, number: i64) -> Result<T, &'static str> {
        let number = T::try_from(number).ok();
        number
            .filter(|number| self.contain(*number))
            .ok_or(self.remedy)
    }
}

/// Rate limit: `limit` tokens per `window_seconds`. After a window without a use, all tokens can be used at once. In
/// settings it is written `LIMIT/SECONDS`, such as `1000/60`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct RateLimit {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64, example = 100)]
    limit: u64,
    #[schema(minimum = 1, maximum = 86_400, example = 60)]
    window_seconds: u32,
}

impl RateLimit {
    /// Creates a rate limit. Returns `None` if a number is out of its bounds.
    pub fn new(limit: u64, window_seconds: u32) -> Option<Self> {
        let in_bounds = LIMITS.contain(limit) && WINDOWS.contain(window_seconds);
        in_bounds.then_some(Self {
            limit,
            window_seconds,
        })
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn window_seconds(&self) -> u32 {
        self.window_seconds
    }

    /// Returns the share of one of `of` instances, rounded up: at least one token.
    pub fn share(&self, of: usize) -> Self {
        let of = u64::try_from(of).unwrap_or(u64::MAX).max(1);
        Self {
            limit: self.limit.div_ceil(of),
            ..*self
        }
    }
}

impl FromStr for RateLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (limit, window) = text.split_once('/')?;
            Self::new(limit.parse().ok()?, window.parse().ok()?)
        };
        parse().ok_or(
            "must be LIMIT/SECONDS, such as 1000/60, with a limit from 1 to 9007199254740992 and \
             1 to 86400 seconds",
        )
    }
}

/// Quota: `limit` units per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quota {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64, example = 10_000)]
    limit: u64,
    period: Period,
}

impl Quota {
    /// Creates a quota. Returns `None` if the limit is out of its bounds.
    pub fn new(limit: u64, period: Period) -> Option<Self> {
        LIMITS.contain(limit).then_some(Self { limit, period })
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn period(&self) -> Period {
        self.period
    }
}

/// Period of a quota: a calendar day or month in UTC, or the whole lifetime of a key.
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
#[serde(rename_all = "lowercase")]
#[diesel(sql_type = diesel::sql_types::Text)]
pub enum Period {
    Day,
    Month,
    /// Lifetime of the key and its successors.
    Total,
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let remedy = "must be `day`, `month` or `total`";
        deserialize_parsed(deserializer, |name| Self::from_name(name).ok_or(remedy))
    }
}

impl Period {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// Returns the period with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Day, Self::Month, Self::Total];
        all.into_iter().find(|period| period.as_str() == name)
    }

    /// Returns the start of the period that contains `now`; for `Total`, 1970.
    pub fn start(self, now: UtcTime) -> UtcTime {
        match self {
            Self::Day => now.day(),
            Self::Month => now.month(),
            Self::Total => UtcTime(0),
        }
    }

    /// Returns the end of the period that begins at `start`; for `Total`, `None`.
    pub fn end(self, start: UtcTime) -> Option<UtcTime> {
        match self {
            Self::Day => Some(start.plus_seconds(24 * 3600)),
            // A month has 28 to 31 days, so 31 days after its start is a moment of the next month.
            Self::Month => Some(start.plus_seconds(31 * 24 * 3600).month()),
            Self::Total => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UtcTime {
        UtcTime::parse(text).expect(text)
    }

    #[test]
    fn period_starts_and_ends_with_the_calendar_in_utc() {
        for (period, now, start, end) in [
            (
                Period::Day,
                "2026-11-25T00:00:00Z",
                "2026-11-25T00:00:00Z",
                "2026-11-26T00:00:00Z",
            ),
            (
                Period::Day,
                "2026-12-31T23:59:59.999999Z",
                "2026-12-31T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                Period::Month,
                "2026-01-31T12:00:00Z",
                "2026-01-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
            ),
            (
                Period::Month,
                "2028-02-29T23:59:59Z",
                "2028-02-01T00:00:00Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                Period::Month,
                "2026-12-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(period.start(at(now)), at(start), "{now}");
            assert_eq!(period.end(at(start)), Some(at(end)), "{now}");
        }
        assert_eq!(
            Period::Total.end(Period::Total.start(at("2026-11-25T00:00:00Z"))),
            None
        );
    }

    #[test]
    fn rate_limit_setting_is_parsed_within_its_bounds() {
        let parse = |text: &str| text.parse::<RateLimit>().ok();
        for (text, limit, window) in [("1/1", 1, 1), ("9007199254740992/86400", 1 << 53, 86_400)] {
            assert_eq!(parse(text), RateLimit::new(limit, window), "{text}");
        }
        for text in [
            "",
            "1",
            "0/1",
            "1/0",
            "1/86401",
            "9007199254740993/1",
            "-1/1",
            "1/1/1",
            "1/day",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn share_of_a_rate_limit_is_at_least_one_token() {
        let share = |limit, of| RateLimit::new(limit, 1).map(|l| l.share(of).limit());
        assert_eq!(
            [share(1, 3), share(50, 3), share(50, 0)],
            [Some(1), Some(17), Some(50)]
        );
    }
}
