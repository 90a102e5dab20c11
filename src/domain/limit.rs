//! How much a key may be used: so often in a window of time, and so often in a period of the calendar.

use std::str::FromStr;

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{clock::UtcTime, text::deserialize_parsed};

/// Limits. Up to the largest, every integer is a number in JSON for most programs (RFC 8259 section 6),
/// and in Redis's Lua.
pub const LIMITS: Bounds<u64> = Bounds {
    most: 1 << 53,
    remedy: "must be a whole number from 1 to 9007199254740992",
};
/// Windows in seconds: up to a day.
pub const WINDOWS: Bounds<u32> = Bounds {
    most: 24 * 3600,
    remedy: "must be a whole number from 1 to 86400",
};

/// An instance prefetches at most this fraction (1/16) of what is left of a limit: when a limit is nearly
/// used up, no instance holds tokens that another one needs.
pub const PREFETCH_FRACTION: u64 = 16;

/// From 1 to the most.
pub struct Bounds<T> {
    most: T,
    /// What would do, for who asks for anything else.
    pub remedy: &'static str,
}

impl<T: Copy + PartialOrd + From<u8> + TryFrom<i64>> Bounds<T> {
    fn admit(&self, number: T) -> bool {
        number >= T::from(1) && number <= self.most
    }

    /// The number, if it is within them.
    pub fn check(&self, number: i64) -> Result<T, &'static str> {
        let number = T::try_from(number).ok();
        number
            .filter(|number| self.admit(*number))
            .ok_or(self.remedy)
    }
}

/// So many units in a window, and all of them at once if none were taken for as long. As a setting it
/// is written `1000/60`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct RateLimit {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64, example = 100)]
    limit: u64,
    #[schema(minimum = 1, maximum = 86_400, example = 60)]
    window_seconds: u32,
}

impl RateLimit {
    /// `None` if either is out of its bounds.
    pub fn new(limit: u64, window_seconds: u32) -> Option<Self> {
        let in_bounds = LIMITS.admit(limit) && WINDOWS.admit(window_seconds);
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

    /// The part of it that one of so many has, rounded up: one has at least one unit.
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

/// So many units in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quota {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64, example = 10_000)]
    limit: u64,
    period: Period,
}

impl Quota {
    /// `None` if the limit is out of its bounds.
    pub fn new(limit: u64, period: Period) -> Option<Self> {
        LIMITS.admit(limit).then_some(Self { limit, period })
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn period(&self) -> Period {
        self.period
    }
}

/// What a quota is for: days and months of the calendar in UTC.
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
    /// The key's whole life, and that of its successors.
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

    /// The period that is called so.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Day, Self::Month, Self::Total];
        all.into_iter().find(|period| period.as_str() == name)
    }

    /// When the period of this moment began; for the one that never ends, 1970.
    pub fn start(self, now: UtcTime) -> UtcTime {
        match self {
            Self::Day => now.day(),
            Self::Month => now.month(),
            Self::Total => UtcTime(0),
        }
    }

    /// When a period that began then is over, if ever.
    pub fn end(self, start: UtcTime) -> Option<UtcTime> {
        match self {
            Self::Day => Some(start.plus_seconds(24 * 3600)),
            // No month has more than 31 days, or fewer than 28.
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
    fn periods_are_those_of_the_calendar() {
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
    fn a_limit_is_read_within_its_bounds() {
        let read = |text: &str| text.parse::<RateLimit>().ok();
        for (text, limit, window) in [("1/1", 1, 1), ("9007199254740992/86400", 1 << 53, 86_400)] {
            assert_eq!(read(text), RateLimit::new(limit, window), "{text}");
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
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_share_is_never_nothing() {
        let share = |limit, of| RateLimit::new(limit, 1).map(|l| l.share(of).limit());
        assert_eq!(
            [share(1, 3), share(50, 3), share(50, 0)],
            [Some(1), Some(17), Some(50)]
        );
    }
}
