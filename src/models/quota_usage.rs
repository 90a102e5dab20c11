//! `quota_usage`: what is taken of the quotas of keys, by all instances together.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Binary, Text},
};

use crate::{
    db::{Conn, schema::quota_usage},
    domain::{
        clock::UtcTime,
        id::ApiKeyId,
        limit::{PREFETCH_FRACTION, Period, Quota},
    },
};

/// Periods of a lineage that are kept, those that began last. An instance whose clock is behind may
/// still ask for one before the last.
const KEPT_PERIODS: i64 = 4;

/// A period of a lineage's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaPeriod {
    pub lineage_id: ApiKeyId,
    pub period: Period,
    pub start: UtcTime,
}

/// Who wants units of a quota, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// With fewer than this nobody is served.
    pub minimum: u64,
    /// All that is asked for now.
    pub waiting: u64,
    /// What will be asked for soon. It gets no more than a part of what is left.
    pub prefetch: u64,
}

impl Demand {
    /// What it gets where so much is left.
    pub fn of(&self, left: u64) -> u64 {
        if left < self.minimum {
            return 0;
        }
        let now = self.waiting.min(left);
        now + self.prefetch.min((left - now) / PREFETCH_FRACTION)
    }
}

/// What was taken, and what is left after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    pub units: u64,
    pub left: u64,
}

macro_rules! row {
    ($period:expr) => {{
        let QuotaPeriod {
            lineage_id,
            period,
            start,
        } = $period;
        quota_usage::table.find((lineage_id, period, start))
    }};
}

/// Takes what is wanted, or as much of it as there is.
pub fn reserve(
    conn: &mut Conn,
    period: QuotaPeriod,
    quota: Quota,
    demand: Demand,
) -> QueryResult<Reserved> {
    let limit = quota.limit();
    if demand.waiting == 0 && demand.prefetch == 0 {
        return Ok(reserved(0, limit, used(conn, period)?.unwrap_or(0)));
    }
    // So much must be left for the whole demand to be met. In one statement: nobody can come between.
    let all = demand.waiting.saturating_add(demand.prefetch);
    let enough = demand
        .waiting
        .saturating_add(demand.prefetch.saturating_mul(PREFETCH_FRACTION));
    if enough <= limit
        && let Some(used) = take(conn, period, all, limit - enough)?
    {
        return Ok(reserved(all, limit, used));
    }
    // Others may take in between, so that less is left than it was; never more of their own than there
    // is, so this ends.
    loop {
        let used = match used(conn, period)? {
            Some(used) => used,
            None => open(conn, period)?,
        };
        let units = demand.of(limit.saturating_sub(used));
        if units == 0 {
            return Ok(reserved(0, limit, used));
        }
        if let Some(used) = take(conn, period, units, limit - units)? {
            return Ok(reserved(units, limit, used));
        }
    }
}

fn reserved(units: u64, limit: u64, used: u64) -> Reserved {
    let left = limit.saturating_sub(used);
    Reserved { units, left }
}

/// Gives back units that were not spent.
pub fn give_back(conn: &mut Conn, period: QuotaPeriod, units: u64) -> QueryResult<()> {
    let units = signed(units);
    // Less than that is there only if somebody has changed it by hand.
    diesel::update(row!(period))
        .filter(quota_usage::used.ge(units))
        .set(quota_usage::used.eq(quota_usage::used - units))
        .execute(conn)
        .map(drop)
}

/// Takes units if at most so many are taken before, and answers how many are after.
fn take(conn: &mut Conn, period: QuotaPeriod, units: u64, before: u64) -> QueryResult<Option<u64>> {
    let taken: Option<i64> = diesel::update(row!(period))
        .filter(quota_usage::used.le(signed(before)))
        .set(quota_usage::used.eq(quota_usage::used + signed(units)))
        .returning(quota_usage::used)
        .get_result(conn)
        .optional()?;
    Ok(taken.map(unsigned))
}

fn used(conn: &mut Conn, period: QuotaPeriod) -> QueryResult<Option<u64>> {
    let used: Option<i64> = row!(period)
        .select(quota_usage::used)
        .first(conn)
        .optional()?;
    Ok(used.map(unsigned))
}

/// Begins a period, unless somebody has, and answers what is used of it then at the minimum.
fn open(conn: &mut Conn, period: QuotaPeriod) -> QueryResult<u64> {
    let kept: Vec<UtcTime> = quota_usage::table
        .filter(quota_usage::lineage_id.eq(period.lineage_id))
        .filter(quota_usage::period.eq(period.period))
        .order(quota_usage::period_start.desc())
        .limit(KEPT_PERIODS)
        .select(quota_usage::period_start)
        .load(conn)?;
    let oldest = kept.last().filter(|_| kept.len() as i64 == KEPT_PERIODS);
    if let Some(oldest) = oldest {
        if period.start < *oldest {
            // Nobody knows any more what was used of it.
            return Ok(u64::MAX);
        }
        diesel::delete(quota_usage::table)
            .filter(quota_usage::lineage_id.eq(period.lineage_id))
            .filter(quota_usage::period.eq(period.period))
            .filter(quota_usage::period_start.le(*oldest))
            .execute(conn)?;
    }
    diesel::sql_query(
        "INSERT INTO quota_usage (lineage_id, period, period_start, used)
         VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING",
    )
    .bind::<Binary, _>(period.lineage_id)
    .bind::<Text, _>(period.period)
    .bind::<BigInt, _>(period.start)
    .execute(conn)?;
    Ok(0)
}

/// Limits are at most 2^53, and so is what is taken of them.
fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

fn unsigned(used: i64) -> u64 {
    u64::try_from(used).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_demand_gets_all_that_waits_or_what_is_left_and_never_more_than_that(
            minimum in 1_u64..100, more in 0_u64..1000, prefetch in 0_u64..1_000_000, left in 0_u64..2000,
        ) {
            let waiting = minimum + more;
            let units = Demand { minimum, waiting, prefetch }.of(left);
            prop_assert!(units <= left);
            prop_assert_eq!(units == 0, left < minimum);
            prop_assert!(units == 0 || units >= waiting.min(left));
            prop_assert!(units <= waiting + left / PREFETCH_FRACTION);
        }
    }
}
