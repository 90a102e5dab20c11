//! Tables `usage_hours` and `usage_days`: numbers of checks per subject, interval and outcome.

pub mod roll_up;
pub mod writing;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Binary, Text},
};

use crate::{
    db::{Conn, schema::usage_hours},
    domain::{
        clock::UtcTime,
        id::SubjectId,
        usage::{Granularity, Outcome},
    },
};

/// Number of checks of a subject's keys with one outcome, in one hour or on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub subject: SubjectId,
    pub start: UtcTime,
    pub outcome: Outcome,
    pub count: i64,
}

/// Number of checks of one subject's keys with one outcome, in one hour or on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, QueryableByName)]
pub struct BucketCount {
    #[diesel(sql_type = BigInt)]
    pub start: UtcTime,
    #[diesel(sql_type = Text)]
    pub outcome: Outcome,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// Returns the counts of a subject in the buckets that start at `from` or later and before `to`. Counts of zero are
/// omitted.
pub fn read(
    conn: &mut Conn,
    subject: SubjectId,
    (from, to): (UtcTime, UtcTime),
    granularity: Granularity,
) -> QueryResult<Vec<BucketCount>> {
    match granularity {
        Granularity::Hour => usage_hours::table
            .filter(usage_hours::subject_id.eq(subject))
            .filter(usage_hours::hour_start.ge(from))
            .filter(usage_hours::hour_start.lt(to))
            .order((usage_hours::hour_start, usage_hours::outcome))
            .select((
                usage_hours::hour_start,
                usage_hours::outcome,
                usage_hours::count,
            ))
            .load(conn),
        // One statement reads both tables from the same snapshot. Counts that a concurrent roll-up moves are included
        // exactly once.
        Granularity::Day => diesel::sql_query(
            "SELECT start, outcome, CAST(SUM(count) AS BIGINT) AS count FROM (
                 SELECT day_start AS start, outcome, count FROM usage_days
                 WHERE subject_id = $1 AND day_start >= $2 AND day_start < $3
                 UNION ALL
                 SELECT hour_start - hour_start % 86400000000 AS start, outcome, count FROM usage_hours
                 WHERE subject_id = $4 AND hour_start >= $5 AND hour_start < $6
             ) AS counts GROUP BY start, outcome ORDER BY start, outcome",
        )
        .bind::<Binary, _>(subject)
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(to)
        .bind::<Binary, _>(subject)
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(to)
        .load(conn),
    }
}
