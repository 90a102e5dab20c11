//! How keys were used: one's own, and for operators everybody's.

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
        api_key::{self, Reach},
        usage::{self, BucketCount, roll_up},
    },
};

/// Buckets of one answer.
const MAX_BUCKETS: i64 = 1000;

/// For when usage is asked. What is left out is up to now, and as many buckets as a person looks at.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Option<UtcTime>,
    pub to: Option<UtcTime>,
    pub granularity: Granularity,
}

/// How many checks ended how.
pub type Counts = BTreeMap<Outcome, u64>;

/// A span in buckets, those with nothing in them too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    pub buckets: Vec<(UtcTime, Counts)>,
}

/// Reads usage.
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

    /// That of a key of this owner's. To anybody else it is not there, whatever they ask.
    pub async fn of_key(
        &self,
        owner: UserId,
        id: ApiKeyId,
        span: Result<Span, Error>,
    ) -> Result<UsageReport, Error> {
        let find = move |conn: &mut Conn| api_key::find(conn, Reach::Own(owner), id);
        self.db.read(find).await?.ok_or(Error::NotFound)?;
        self.read(id.into(), span?).await
    }

    /// That of all keys, or of all that belong to somebody.
    pub async fn of_all(&self, user: Option<UserId>, span: Span) -> Result<UsageReport, Error> {
        let subject = user.map_or(SubjectId::SERVICE, SubjectId::from);
        self.read(subject, span).await
    }

    async fn read(&self, subject: SubjectId, span: Span) -> Result<UsageReport, Error> {
        let granularity = span.granularity;
        let (from, to) = self.bounds(span)?;
        if granularity == Granularity::Hour && from < self.hours_known_from().await? {
            let remedy = format!(
                "asks for hours that are not known any more: usage is kept by the hour for {} days; ask by the day",
                self.hourly_retention_days
            );
            return Err(Error::invalid_field(span.beginning(), remedy));
        }
        let counts = move |conn: &mut Conn| usage::read(conn, subject, (from, to), granularity);
        Ok(filled(from, to, granularity, self.db.read(counts).await?))
    }

    /// From the beginning of a bucket to the end of one.
    fn bounds(&self, span: Span) -> Result<(UtcTime, UtcTime), Error> {
        let granularity = span.granularity;
        // In a bucket that begins now there may be something already.
        let now = self.clock.now().plus(Duration::from_micros(1));
        let to = granularity.end(span.to.unwrap_or(now));
        let usual = match granularity {
            Granularity::Hour => 24,
            Granularity::Day => 30,
        };
        let from = match span.from {
            Some(from) => granularity.start(from),
            None => to.plus_seconds(-usual * granularity.seconds()),
        };
        let buckets = (to.unix_seconds() - from.unix_seconds()) / granularity.seconds();
        let wrong = |remedy| Err(Error::invalid_field(span.beginning(), remedy));
        if from >= to {
            wrong("must be before `to`")
        } else if from < UtcTime::from_unix_seconds(0) {
            wrong("must be in 1970 or later")
        } else if buckets <= MAX_BUCKETS {
            Ok((from, to))
        } else {
            match granularity {
                Granularity::Hour => {
                    wrong("must be at most 1000 hours before `to`: ask for less, or by the day")
                }
                Granularity::Day => wrong("must be at most 1000 days before `to`: ask for less"),
            }
        }
    }

    async fn hours_known_from(&self) -> Result<UtcTime, Error> {
        let kept_from = days_before(self.clock.now(), self.hourly_retention_days);
        // They may have been kept for less than they are now.
        let known_from = self.db.read(roll_up::hours_known_from).await?;
        Ok(known_from.max(kept_from))
    }
}

impl Span {
    /// The parameter that says where it begins.
    fn beginning(&self) -> &'static str {
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

fn filled(
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
