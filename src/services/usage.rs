//! Usage reports: of one key for its owner, and of all keys for operators.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::UsageConfig,
    db::{Conn, Db},
    domain::{
        clock::{Clock, UtcTime},
        error::Error,
        id::{ApiKeyId, SubjectId, UserId},
        usage::{Granularity, Outcome, days_before},
    },
    models::{
        api_key::{self, Ownership},
        usage::{self, BucketCount, roll_up},
    },
};

/// Maximum number of buckets per response.
const MAX_BUCKETS: i64 = 1000;

/// Time span of a usage report. A missing `to` means now. A missing `from` means 24 hours or 30 days before `to`.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Option<UtcTime>,
    pub to: Option<UtcTime>,
    pub granularity: Granularity,
}

/// Number of checks by outcome.
pub type Counts = BTreeMap<Outcome, u64>;

/// Usage by bucket, with all buckets of the span, even empty ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    pub buckets: Vec<(UtcTime, Counts)>,
}

/// Use cases of usage reports.
pub struct UsageReports {
    db: Db,
    clock: Clock,
    hourly_retention_days: u32,
}

impl UsageReports {
    pub fn new(db: Db, clock: Clock, config: &UsageConfig) -> Self {
        Self {
            db,
            clock,
            hourly_retention_days: config.hourly_retention_days,
        }
    }

    /// Returns the usage of a key of this owner. Responds `not_found` for keys of other users, even if `span` is
    /// invalid.
    pub async fn of_key(
        &self,
        owner: UserId,
        id: ApiKeyId,
        span: Result<Span, Error>,
    ) -> Result<UsageReport, Error> {
        let find = move |conn: &mut Conn| api_key::find(conn, Ownership::Own(owner), id);
        self.db.read(find).await?.ok_or(Error::NotFound)?;
        self.read(id.into(), span?).await
    }

    /// Returns the usage of all keys, or of all keys of one user.
    pub async fn of_all(&self, user: Option<UserId>, span: Span) -> Result<UsageReport, Error> {
        let subject = user.map_or(SubjectId::SERVICE, SubjectId::from);
        self.read(subject, span).await
    }

    async fn read(&self, subject: SubjectId, span: Span) -> Result<UsageReport, Error> {
        let granularity = span.granularity;
        let (from, to) = self.bounds(span)?;
        if granularity == Granularity::Hour && from < self.first_hour().await? {
            let remedy = format!(
                "reaches back too far: hourly usage is kept for {} days; use `granularity=day`",
                self.hourly_retention_days
            );
            return Err(Error::invalid_field(span.start_parameter(), remedy));
        }
        let counts = move |conn: &mut Conn| usage::read(conn, subject, (from, to), granularity);
        Ok(fill_gaps(
            from,
            to,
            granularity,
            self.db.read(counts).await?,
        ))
    }

    /// Returns the start of the first bucket and the end of the last one.
    fn bounds(&self, span: Span) -> Result<(UtcTime, UtcTime), Error> {
        let granularity = span.granularity;
        // One microsecond later than now: a bucket that starts now may already have counts.
        let now = self.clock.now().plus(Duration::from_micros(1));
        let to = granularity.end(span.to.unwrap_or(now));
        let default_buckets = match granularity {
            Granularity::Hour => 24,
            Granularity::Day => 30,
        };
        let from = match span.from {
            Some(from) => granularity.start(from),
            None => to.plus_seconds(-default_buckets * granularity.seconds()),
        };
        let buckets = (to.unix_seconds() - from.unix_seconds()) / granularity.seconds();
        let invalid = |remedy| Err(Error::invalid_field(span.start_parameter(), remedy));
        if from >= to {
            invalid("must be before `to`")
        } else if from < UtcTime::from_unix_seconds(0) {
            invalid("must be in 1970 or later")
        } else if buckets <= MAX_BUCKETS {
            Ok((from, to))
        } else {
            match granularity {
                Granularity::Hour => invalid(
                    "must be at most 1000 hours before `to`: use a shorter span or `granularity=day`",
                ),
                Granularity::Day => {
                    invalid("must be at most 1000 days before `to`: use a shorter span")
                }
            }
        }
    }

    /// Returns the first hour from which hourly usage is complete.
    async fn first_hour(&self) -> Result<UtcTime, Error> {
        let kept_from = days_before(self.clock.now(), self.hourly_retention_days);
        // The retention may have been shorter in the past.
        let hours_from = self.db.read(roll_up::first_complete_hour).await?;
        Ok(hours_from.max(kept_from))
    }
}

impl Span {
    /// Returns the query parameter that an error about the start points to.
    fn start_parameter(&self) -> &'static str {
        match self.from {
            Some(_) => "?from",
            None => "?to",
        }
    }
}

impl UsageReport {
    pub fn by_outcome(&self) -> Counts {
        let mut all = Counts::new();
        for (outcome, count) in self.buckets.iter().flat_map(|(_, counts)| counts) {
            *all.entry(*outcome).or_default() += count;
        }
        all
    }
}

/// Returns a report with empty buckets where nothing was counted.
fn fill_gaps(
    from: UtcTime,
    to: UtcTime,
    granularity: Granularity,
    counts: Vec<BucketCount>,
) -> UsageReport {
    let mut buckets = BTreeMap::new();
    let mut start = from;
    while start < to {
        buckets.insert(start, Counts::new());
        start = start.plus_seconds(granularity.seconds());
    }
    for BucketCount {
        start,
        outcome,
        count,
    } in counts
    {
        let count = u64::try_from(count).unwrap_or(0);
        buckets.entry(start).or_default().insert(outcome, count);
    }
    UsageReport {
        buckets: buckets.into_iter().collect(),
    }
}
