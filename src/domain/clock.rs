//! Clock of the service: its only source of the time of day, so that a test can move it instead of sleeping.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Datelike as _, Months, SecondsFormat, Utc};
use diesel::{deserialize::FromSqlRow, expression::AsExpression, sql_types::BigInt};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::boot_clock::BootClock;

/// Moment in UTC, in whole microseconds since 1970-01-01T00:00:00Z.
///
/// In JSON it is RFC 3339 with `Z`; in either database it is a 64-bit integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = BigInt)]
pub struct UtcTime(pub(crate) i64);

impl UtcTime {
    /// Returns the whole seconds since 1970, rounded down: the NumericDate of a JWT (RFC 7519).
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Creates the moment from whole seconds since 1970.
    pub(crate) fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Returns the seconds and nanoseconds since 1970, as the constructor of a UUIDv7 takes them.
    pub(crate) fn unix_parts(self) -> (u64, u32) {
        let micros = u64::try_from(self.0).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        (micros / 1_000_000, nanos)
    }

    /// Returns the time from `earlier` to `self`; zero if the clock was set back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the moment `seconds` later.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Returns the moment `duration` later.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// Returns the same day and time `years` later; 28 February instead of a 29 February that does not exist.
    pub fn plus_years(self, years: u32) -> Self {
        let later = self
            .to_calendar()
            .and_then(|time| time.checked_add_months(Months::new(12 * years)));
        later.map_or(Self(i64::MAX), |time| Self(time.timestamp_micros()))
    }

    /// Rounds down to a multiple of `seconds` since 1970.
    pub(super) fn floor(self, seconds: i64) -> Self {
        Self(
            self.0
                .saturating_sub(self.0.rem_euclid(seconds * 1_000_000)),
        )
    }

    /// Returns the start of the day.
    pub(super) fn day(self) -> Self {
        self.floor(24 * 3600)
    }

    /// Returns the start of the month.
    pub(super) fn month(self) -> Self {
        let first = self.to_calendar().and_then(|time| {
            let first = time.date_naive().with_day(1)?;
            Some(first.and_time(chrono::NaiveTime::MIN).and_utc())
        });
        first.map_or(self.day(), |time| Self(time.timestamp_micros()))
    }

    /// Parses RFC 3339 with any offset. Fractions of a microsecond are truncated.
    pub fn parse(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self(time.timestamp_micros()))
    }

    fn to_calendar(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = self.to_calendar().ok_or_else(|| {
            serde::ser::Error::custom("time is outside of the range of the calendar")
        })?;
        serializer.collect_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom("expected a time in RFC 3339, such as 2030-01-31T12:00:00Z")
        })
    }
}

/// System clock plus an offset, which only tests set. Clones share the offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_micros: Arc<AtomicI64>,
    boot: BootClock,
}

impl Clock {
    /// Returns the current time.
    pub fn now(&self) -> UtcTime {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        UtcTime(micros.saturating_add(self.offset_micros.load(Ordering::Relaxed)))
    }

    /// Returns milliseconds on a monotonic clock, which are independent of changes to the time of day. For limits that
    /// count per duration.
    pub fn millis(&self) -> i64 {
        let nanos = i64::try_from(self.boot.now().0).unwrap_or(i64::MAX);
        (nanos / 1_000)
            .saturating_add(self.offset_micros.load(Ordering::Relaxed))
            .div_euclid(1_000)
    }

    /// Moves this clock and all its clones forward.
    pub fn advance(&self, by: Duration) {
        self.offset_micros.fetch_add(micros(by), Ordering::Relaxed);
    }

    /// Moves this clock and all its clones back.
    pub fn set_back(&self, by: Duration) {
        self.offset_micros.fetch_sub(micros(by), Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
