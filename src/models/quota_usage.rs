//! Table `quota_usage`: units of quotas that all instances together have reserved.

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

/// Number of a lineage's most recent periods that are kept. An instance whose clock is behind may still reserve units
/// of an earlier period than the last.
const KEPT_PERIODS: i64 = 4;

/// Period of a lineage's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaPeriod {
    pub lineage_id: ApiKeyId,
    pub period: Period,
    pub start: UtcTime,
}

/// Number of units of a quota that an instance wants to reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Smallest number of units that serves any waiting request. With fewer, none are reserved.
    pub minimum: u64,
    /// Units that waiting requests need now.
    pub waiting: u64,
    /// Units that will be needed soon. At most 1/[`PREFETCH_FRACTION`] of the remaining units are reserved for it.
    pub prefetch: u64,
}

impl Demand {
    /// Returns the number of units to reserve if `left` units remain.
    pub fn of(&self, left: u64) -> u64 {
        if left < self.minimum {
            return 0;
        }
        let now = self.waiting.min(left);
        now + self.prefetch.min((left - now) / PREFETCH_FRACTION)
    }
}

/// Number of units that were reserved, and that remain afterwards.
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

/// Reserves the units of a demand, or as many of them as remain.
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
    // Units that must remain for the whole demand to be met. One statement checks and takes them, so no other
    // transaction can interfere.
    let all = demand.waiting.saturating_add(demand.prefetch);
    let enough = demand
        .waiting
        .saturating_add(demand.prefetch.saturating_mul(PREFETCH_FRACTION));
    if enough <= limit
        && let Some(used) = take(conn, period, all, limit - enough)?
    {
        return Ok(reserved(all, limit, used));
    }
    // Other transactions may take units between the two statements; then this tries again. They never take more
    // than remain, so this ends.
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

/// Returns unspent units to the quota.
pub fn give_back(conn: &mut Conn, period: QuotaPeriod, units: u64) -> QueryResult<()> {
    let units = signed(units);
    // The row has fewer used units only if it was edited manually.
    diesel::update(row!(period))
        .filter(quota_usage::used.ge(units))
        .set(quota_usage::used.eq(quota_usage::used - units))
        .execute(conn)
        .map(drop)
}

/// Takes units if at most `max_used` are used. Returns the number of used units afterwards, or `None` if it took none.
fn take(
    conn: &mut Conn,
    period: QuotaPeriod,
    units: u64,
    max_used: u64,
) -> QueryResult<Option<u64>> {
    let used: Option<i64> = diesel::update(row!(period))
        .filter(quota_usage::used.le(signed(max_used)))
        .set(quota_usage::used.eq(quota_usage::used + signed(units)))
        .returning(quota_usage::used)
        .get_result(conn)
        .optional()?;
    Ok(used.map(unsigned))
}

fn used(conn: &mut Conn, period: QuotaPeriod) -> QueryResult<Option<u64>> {
    let used: Option<i64> = row!(period)
        .select(quota_usage::used)
        .first(conn)
        .optional()?;
    Ok(used.map(unsigned))
}

/// Inserts the row of a period unless it exists, and deletes the oldest ones. Returns a lower bound of the used units.
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
            // The row of that period was deleted, so its used units are unknown. All count as used.
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

/// Converts units to the type of the column. Limits are at most 2^53, and so are the units taken of them.
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
        fn demand_gets_all_waiting_units_or_the_remaining_ones_and_never_more(
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
