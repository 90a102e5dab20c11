//! Counter of one quota. Quotas are counted in the database, from which each instance takes blocks of units. Only
//! units of a block are spent, so no crash can overspend a quota: it loses the blocks that the instance holds.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use super::{
    prefetch_size::PrefetchSize,
    refill::{self, RefillQueue, Refillable, Taken},
    registry::Counter,
    reservations::Reservations,
    tasks::Tasks,
};
use crate::{
    domain::{
        boot_clock::{BootClock, Tick},
        clock::{Clock, UtcTime},
        error::Error,
        id::ApiKeyId,
        limit::Quota,
    },
    models::quota_usage::{Demand, QuotaPeriod},
    telemetry::traces,
};

/// Time for which a block should last.
const BLOCK_DURATION: Duration = Duration::from_millis(500);
/// Time for which an instance relies on the balance it has read. Other instances may have given units back since.
const BALANCE_VALID_FOR: Duration = Duration::from_secs(1);
/// Time without use after which a block is given back.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Status of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaStatus {
    pub quota: Quota,
    /// Number of units left: in this instance's block, and in the database at its last request. Blocks of other
    /// instances count as used.
    pub remaining: u64,
    /// Start of the period; in 1970 if it never ends.
    pub began_at: UtcTime,
    /// End of the period; `None` if it never ends.
    pub resets_at: Option<UtcTime>,
    /// Seconds until the end of the period, rounded up; `None` if it never ends.
    pub reset_seconds: Option<u64>,
    /// Length of the period in seconds; `None` if it never ends.
    pub window_seconds: Option<u64>,
}

/// Clocks and access to the database, shared by all quota counters.
pub(super) struct Quotas {
    pub clock: Clock,
    pub boot: BootClock,
    pub reservations: Reservations,
    pub tasks: Tasks,
}

/// Counter of one lineage's quota on this instance.
pub(super) struct QuotaCounter {
    quotas: Arc<Quotas>,
    lineage_id: ApiKeyId,
    block: Mutex<Option<Block>>,
    refill_queue: RefillQueue,
}

/// Units taken from a quota and not spent yet.
struct Block {
    /// Start of the period that the units were taken from. They are valid only for it and for `quota`.
    start: UtcTime,
    quota: Quota,
    units: u64,
    /// Units of an earlier block, of another period or limit. They are given back together with the next refill.
    stale: Option<(QuotaPeriod, u64)>,
    /// Balance in the database at the last refill, and its time. `None` before the first refill.
    left: Option<(u64, Tick)>,
    prefetch_size: PrefetchSize,
    spent_at: Tick,
}

/// True if units were taken, and the status afterwards.
pub(super) type QuotaResult = (bool, QuotaStatus);

impl QuotaCounter {
    pub(super) fn new(quotas: Arc<Quotas>, lineage_id: ApiKeyId) -> Self {
        Self {
            quotas,
            lineage_id,
            block: Mutex::default(),
            refill_queue: RefillQueue::default(),
        }
    }

    /// Takes units, all of them or none. Returns an error if that cannot be decided without the database.
    pub(super) async fn charge(
        self: &Arc<Self>,
        quota: Quota,
        units: u64,
    ) -> Result<QuotaResult, Error> {
        refill::take(self, quota, units).await
    }

    /// Puts back units that were taken with the status `taken` and not used. They go back into the block: they have
    /// left it only a moment ago, and quotas do not leak.
    pub(super) fn put_back(&self, taken: &QuotaStatus, units: u64) {
        let mut block = self.block();
        match &mut *block {
            Some(block) if block.quota == taken.quota && block.start == taken.began_at => {
                block.units += units;
            }
            _ => {
                let period = self.period(taken.quota, taken.began_at);
                self.quotas.reservations.give_back(period, units);
            }
        }
    }

    /// Gives the block back if it has not been used for [`IDLE_AFTER`].
    pub(super) fn give_back_idle(&self) {
        let now = self.quotas.boot.now();
        let mut block = self.block();
        if block
            .as_ref()
            .is_some_and(|block| now.since(block.spent_at) >= IDLE_AFTER)
        {
            self.empty(&mut block);
        }
    }

    /// Gives the block back.
    pub(super) fn give_back(&self) {
        self.empty(&mut self.block());
    }

    /// Gives the block and its stale units back. The balance is dropped as well: the return changes it.
    fn empty(&self, block: &mut Option<Block>) {
        let has_any = |block: &mut Block| block.units > 0 || block.stale.is_some();
        if let Some(block) = block.take_if(has_any) {
            let period = self.period(block.quota, block.start);
            let units = Some((period, block.units)).filter(|_| block.units > 0);
            for (period, units) in block.stale.into_iter().chain(units) {
                self.quotas.reservations.give_back(period, units);
            }
        }
    }

    fn period(&self, quota: Quota, start: UtcTime) -> QuotaPeriod {
        QuotaPeriod {
            lineage_id: self.lineage_id,
            period: quota.period(),
            start,
        }
    }

    /// Returns the block of this quota in the current period. A block of another quota or period is given back.
    fn current_block<'a>(
        &self,
        block: &'a mut Option<Block>,
        quota: Quota,
        now: UtcTime,
    ) -> &'a mut Block {
        let start = quota.period().start(now);
        let tick = self.quotas.boot.now();
        let mut stale = None;
        if let Some(old) = block
            && (old.quota != quota || old.start != start)
        {
            if old.units > 0 && old.stale.is_none() {
                stale = Some((self.period(old.quota, old.start), old.units));
            } else {
                self.empty(block);
            }
            *block = None;
        }
        block.get_or_insert_with(|| Block {
            start,
            quota,
            units: 0,
            stale,
            left: None,
            prefetch_size: PrefetchSize::new(tick),
            spent_at: tick,
        })
    }

    fn block(&self) -> MutexGuard<'_, Option<Block>> {
        self.block.lock()
    }
}

impl Refillable for QuotaCounter {
    type Limit = Quota;
    type Output = QuotaResult;

    fn refill_queue(&self) -> &RefillQueue {
        &self.refill_queue
    }

    fn take(&self, quota: Quota, units: u64) -> Taken<QuotaResult> {
        let tick = self.quotas.boot.now();
        let mut block = self.block();
        let now = self.quotas.clock.now();
        let block = self.current_block(&mut block, quota, now);
        let balance = block
            .left
            .filter(|(_, at)| tick.since(*at) < BALANCE_VALID_FOR);
        if units == 0 {
            return match balance {
                Some(_) => Taken::Done((true, block.status(now))),
                None => Taken::Refill,
            };
        }
        if units <= block.units {
            block.units -= units;
            block.spent_at = tick;
            block.prefetch_size.spend(units);
            let result = (true, block.status(now));
            let is_nearly_empty = block.prefetch_size.is_nearly_empty(block.units);
            return if is_nearly_empty && block.may_be_left() {
                Taken::NearlyEmpty(result)
            } else {
                Taken::Done(result)
            };
        }
        match balance {
            Some((left, _)) if left + block.units < units => {
                Taken::Done((false, block.status(now)))
            }
            _ => Taken::Refill,
        }
    }

    async fn refill(&self, quota: Quota) -> Result<(), Error> {
        let (period, demand, stale) = {
            let mut block = self.block();
            let block = self.current_block(&mut block, quota, self.quotas.clock.now());
            let (minimum, waiting) = self.refill_queue.waiting();
            let demand = Demand {
                minimum: minimum.saturating_sub(block.units),
                waiting: waiting.saturating_sub(block.units),
                prefetch: block
                    .prefetch_size
                    .next(self.quotas.boot.now(), BLOCK_DURATION),
            };
            (self.period(quota, block.start), demand, block.stale.take())
        };
        let reservations = &self.quotas.reservations;
        let reserved = reservations.reserve(period, quota, demand, stale).await?;
        let now = self.quotas.boot.now();
        let mut block = self.block();
        match &mut *block {
            Some(block) if block.quota == quota && block.start == period.start => {
                block.units += reserved.units;
                block
                    .prefetch_size
                    .granted(reserved.units.saturating_sub(demand.waiting));
                block.left = Some((reserved.left, now));
            }
            // Meanwhile the period has ended, or the quota was changed.
            Some(block) if reserved.units > 0 && block.stale.is_none() => {
                block.stale = Some((period, reserved.units));
            }
            _ if reserved.units > 0 => reservations.give_back(period, reserved.units),
            _ => {}
        }
        Ok(())
    }

    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static) {
        self.quotas.tasks.spawn(traces::with_current_span(refill));
    }
}

impl Block {
    /// Returns whether the database may have units left.
    fn may_be_left(&self) -> bool {
        self.left.is_none_or(|(left, _)| left > 0)
    }

    fn status(&self, now: UtcTime) -> QuotaStatus {
        let resets_at = self.quota.period().end(self.start);
        let seconds = |since: UtcTime, end: UtcTime| {
            let micros = end.since(since).as_micros();
            u64::try_from(micros.div_ceil(1_000_000)).unwrap_or(u64::MAX)
        };
        QuotaStatus {
            quota: self.quota,
            remaining: self.units + self.left.map_or(0, |(left, _)| left),
            began_at: self.start,
            resets_at,
            reset_seconds: resets_at.map(|end| seconds(now, end).max(1)),
            window_seconds: resets_at.map(|end| seconds(self.start, end)),
        }
    }
}

impl Counter for QuotaCounter {
    fn is_idle(&self) -> bool {
        let block = self.block();
        block
            .as_ref()
            .is_none_or(|block| block.units == 0 && block.stale.is_none())
    }
}
