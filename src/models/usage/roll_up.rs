//! Roll-up of hourly counts into daily counts, and deletion of old daily counts.
//!
//! A roll-up goes through all subjects in steps. Each step is a transaction of its own, so that other transactions do
//! not wait long for it. The progress is stored in the only row of `usage_rollup`. Each step holds the lock of that
//! row, so only one instance runs a step at a time, and the next step continues where the last one ended.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::{Count, writing};
use crate::{
    db::{
        Conn, for_update,
        schema::{usage_days, usage_hours, usage_rollup},
    },
    domain::{
        clock::UtcTime,
        id::SubjectId,
        usage::{Granularity, Outcome},
    },
};

/// Maximum number of subjects in a step.
const MAX_SUBJECTS: usize = 100;
/// Number of moved rows after which a step ends. The rows of the last subject may exceed it.
const MAX_ROWS: usize = 5_000;
/// Number of days of one subject that are rolled up at once.
const MAX_DAYS: i64 = 31;

/// Start of the intervals for which counts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Hourly counts are kept from the start of this day.
    pub hours_from: UtcTime,
    /// Daily counts are kept from this day.
    pub days_from: UtcTime,
}

/// Progress of the roll-up.
#[derive(Debug, Clone, Copy, Queryable)]
struct Progress {
    /// Hours before this are rolled up by the current run, or were by the last one.
    until: UtcTime,
    /// Subject that the next step starts with. `None` if the last run is complete.
    next: Option<SubjectId>,
}

macro_rules! progress {
    () => {
        usage_rollup::table.select((usage_rollup::until, usage_rollup::subject_id))
    };
}

/// Returns the time from which hourly counts are available. Earlier ones are rolled up, or soon will be.
pub fn first_complete_hour(conn: &mut Conn) -> QueryResult<UtcTime> {
    let progress: Progress = progress!().first(conn)?;
    Ok(progress.until)
}

/// Returns whether the roll-up to this retention is complete.
pub fn is_done(conn: &mut Conn, retention: Retention) -> QueryResult<bool> {
    let progress: Progress = progress!().first(conn)?;
    Ok(progress.is_done(retention))
}

/// Runs one step, which must be in a transaction. Returns the number of moved rows, or `None` if nothing was left to
/// do.
pub fn step(conn: &mut Conn, retention: Retention) -> QueryResult<Option<usize>> {
    let mut progress: Progress = for_update!(conn, progress!(), first)?;
    if progress.is_done(retention) {
        return Ok(None);
    }
    let mut subject = match progress.next {
        Some(next) => Some(next),
        None => {
            progress.until = retention.hours_from;
            Some(SubjectId::SERVICE)
        }
    };
    let (mut subjects, mut moved) = (0, 0);
    while let Some(current) = subject {
        if subjects == MAX_SUBJECTS || moved >= MAX_ROWS {
            break;
        }
        subjects += 1;
        let (rows, is_last) = roll_up(conn, current, progress.until)?;
        moved += rows;
        if is_last {
            delete_days(conn, current, retention.days_from)?;
            subject = next_subject(conn, current)?;
        }
    }
    diesel::update(usage_rollup::table)
        .set((
            usage_rollup::until.eq(progress.until),
            usage_rollup::subject_id.eq(subject),
        ))
        .execute(conn)?;
    Ok(Some(moved))
}

impl Progress {
    fn is_done(&self, retention: Retention) -> bool {
        self.next.is_none() && self.until >= retention.hours_from
    }
}

/// Rolls up the oldest hours of a subject. Returns the number of moved rows, and whether no hours before `until` are
/// left.
///
/// The daily counts grow by exactly the hourly counts that the DELETE returns, even if others add counts meanwhile.
fn roll_up(conn: &mut Conn, subject: SubjectId, until: UtcTime) -> QueryResult<(usize, bool)> {
    let oldest: Option<UtcTime> = usage_hours::table
        .filter(usage_hours::subject_id.eq(subject))
        .filter(usage_hours::hour_start.lt(until))
        .order(usage_hours::hour_start)
        .select(usage_hours::hour_start)
        .first(conn)
        .optional()?;
    let Some(oldest) = oldest else {
        return Ok((0, true));
    };
    let end = Granularity::Day
        .start(oldest)
        .plus_seconds(MAX_DAYS * Granularity::Day.seconds())
        .min(until);
    let hours: Vec<(UtcTime, Outcome, i64)> = diesel::delete(usage_hours::table)
        .filter(usage_hours::subject_id.eq(subject))
        .filter(usage_hours::hour_start.lt(end))
        .returning((
            usage_hours::hour_start,
            usage_hours::outcome,
            usage_hours::count,
        ))
        .get_results(conn)?;
    let mut days: BTreeMap<(UtcTime, Outcome), i64> = BTreeMap::new();
    for (hour, outcome, count) in &hours {
        *days
            .entry((Granularity::Day.start(*hour), *outcome))
            .or_default() += count;
    }
    let days: Vec<_> = days
        .into_iter()
        .map(|((start, outcome), count)| Count {
            subject,
            start,
            outcome,
            count,
        })
        .collect();
    writing::add(conn, Granularity::Day, &days)?;
    Ok((hours.len(), end == until))
}

fn delete_days(conn: &mut Conn, subject: SubjectId, before: UtcTime) -> QueryResult<()> {
    diesel::delete(usage_days::table)
        .filter(usage_days::subject_id.eq(subject))
        .filter(usage_days::day_start.lt(before))
        .execute(conn)
        .map(drop)
}

/// Returns the first subject after this one that has any counts.
fn next_subject(conn: &mut Conn, subject: SubjectId) -> QueryResult<Option<SubjectId>> {
    let with_hours: Option<SubjectId> = usage_hours::table
        .filter(usage_hours::subject_id.gt(subject))
        .order(usage_hours::subject_id)
        .select(usage_hours::subject_id)
        .first(conn)
        .optional()?;
    let with_days: Option<SubjectId> = usage_days::table
        .filter(usage_days::subject_id.gt(subject))
        .order(usage_days::subject_id)
        .select(usage_days::subject_id)
        .first(conn)
        .optional()?;
    Ok(with_hours.into_iter().chain(with_days).min())
}
