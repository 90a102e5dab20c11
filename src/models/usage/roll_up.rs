//! How hours become days, and days are forgotten.
//!
//! It goes through all subjects in steps, each in a transaction of its own, so that nobody waits for long
//! behind it. How far it has come stands in `usage_rollup`. Whoever takes a step holds that row's lock: so
//! there is one at a time, whichever instance takes it, and it goes on where the last one ended.

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

/// Subjects that have their turn in a step at the most.
const SUBJECTS: usize = 100;
/// Rows that are moved in a step, but for those of one subject.
const ROWS: usize = 5_000;
/// Days of one subject that are rolled up at once.
const DAYS: i64 = 31;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Hours from the beginning of this day on.
    pub hours_from: UtcTime,
    /// Days from this one on.
    pub days_from: UtcTime,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Queryable)]
struct Progress {
    until: UtcTime,
    next: Option<SubjectId>,
}

macro_rules! progress {
    () => {
        usage_rollup::table.select((usage_rollup::until, usage_rollup::subject_id))
    };
}

/// Hours before this are not known any more, or soon will not be.
pub fn hours_known_from(conn: &mut Conn) -> QueryResult<UtcTime> {
    let progress: Progress = progress!().first(conn)?;
    Ok(progress.until)
}

/// Whether all is done.
pub fn is_done(conn: &mut Conn, kept: Kept) -> QueryResult<bool> {
    let progress: Progress = progress!().first(conn)?;
    Ok(progress.is_done(kept))
}

/// Does some of it, and answers how many rows it moved. `None` if there was nothing left to do. Belongs
/// into a transaction.
pub fn step(conn: &mut Conn, kept: Kept) -> QueryResult<Option<usize>> {
    let mut progress: Progress = for_update!(conn, progress!(), first)?;
    if progress.is_done(kept) {
        return Ok(None);
    }
    let mut subject = match progress.next {
        Some(next) => Some(next),
        None => {
            progress.until = kept.hours_from;
            Some(SubjectId::SERVICE)
        }
    };
    let (mut subjects, mut moved) = (0, 0);
    while let Some(its_turn) = subject {
        if subjects == SUBJECTS || moved >= ROWS {
            break;
        }
        subjects += 1;
        let (rows, is_last) = roll_up(conn, its_turn, progress.until)?;
        moved += rows;
        if is_last {
            forget_days(conn, its_turn, kept.days_from)?;
            subject = after(conn, its_turn)?;
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
    fn is_done(&self, kept: Kept) -> bool {
        self.next.is_none() && self.until >= kept.hours_from
    }
}

/// Rolls up the oldest hours of a subject, and answers how many rows they were and whether no older ones
/// are left. What is added to the days is what was taken from the hours, whoever adds to them meanwhile.
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
        .plus_seconds(DAYS * Granularity::Day.seconds())
        .min(until);
    let taken: Vec<(UtcTime, Outcome, i64)> = diesel::delete(usage_hours::table)
        .filter(usage_hours::subject_id.eq(subject))
        .filter(usage_hours::hour_start.lt(end))
        .returning((
            usage_hours::hour_start,
            usage_hours::outcome,
            usage_hours::count,
        ))
        .get_results(conn)?;
    let mut days: BTreeMap<(UtcTime, Outcome), i64> = BTreeMap::new();
    for (hour, outcome, count) in &taken {
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
    Ok((taken.len(), end == until))
}

fn forget_days(conn: &mut Conn, subject: SubjectId, before: UtcTime) -> QueryResult<()> {
    diesel::delete(usage_days::table)
        .filter(usage_days::subject_id.eq(subject))
        .filter(usage_days::day_start.lt(before))
        .execute(conn)
        .map(drop)
}

/// The first subject after this one of which anything is known.
fn after(conn: &mut Conn, subject: SubjectId) -> QueryResult<Option<SubjectId>> {
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
