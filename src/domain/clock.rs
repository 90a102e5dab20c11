//! The service's only source of time, so that a test can move it instead of sleeping.

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

/// A moment in UTC, in whole microseconds since 1970-01-01T00:00:00Z.
///
/// In JSON it is RFC 3339 with `Z`; in either database it is a 64-bit integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = BigInt)]
pub struct UtcTime(pub(crate) i64);

impl UtcTime {
    /// Whole seconds since 1970, rounded down: the NumericDate of a JWT (RFC 7519).
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// So many seconds after 1970 began.
    pub(crate) fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Seconds and nanoseconds since 1970, as a UUIDv7 takes them.
    pub(crate) fn unix_parts(self) -> (u64, u32) {
        let micros = u64::try_from(self.0).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        (micros / 1_000_000, nanos)
    }

    /// How long it is from `earlier` to `self`; zero when the clock went backwards.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This many seconds later.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// This much later.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The same day and time in that many years; on 29 February, the day before where there is none.
    pub fn plus_years(self, years: u32) -> Self {
        let later = self
            .to_calendar()
            .and_then(|time| time.checked_add_months(Months::new(12 * years)));
        later.map_or(Self(i64::MAX), |time| Self(time.timestamp_micros()))
    }

    /// The last multiple of so many seconds since 1970 that is not after it.
    pub(super) fn floor(self, seconds: i64) -> Self {
        Self(
            self.0
                .saturating_sub(self.0.rem_euclid(seconds * 1_000_000)),
        )
    }

    /// When its day began.
    pub(super) fn day(self) -> Self {
        self.floor(24 * 3600)
    }

    /// When its month began.
    pub(super) fn month(self) -> Self {
        let first = self.to_calendar().and_then(|time| {
            let first = time.date_naive().with_day(1)?;
            Some(first.and_time(chrono::NaiveTime::MIN).and_utc())
        });
        first.map_or(self.day(), |time| Self(time.timestamp_micros()))
    }

    /// Reads RFC 3339, whatever its offset. What is finer than a microsecond is cut off.
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
        let time = self
            .to_calendar()
            .ok_or_else(|| serde::ser::Error::custom("a time beyond the calendar"))?;
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

/// The system's clock plus an offset, which only tests set. Clones share the offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_micros: Arc<AtomicI64>,
    boot: BootClock,
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> UtcTime {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        UtcTime(micros.saturating_add(self.offset_micros.load(Ordering::Relaxed)))
    }

    /// A number of milliseconds that grows as time goes on, whatever is done to the time of day: what
    /// is counted per duration is counted on it.
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
