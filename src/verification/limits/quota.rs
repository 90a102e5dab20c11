//! A key's quota: counted in the database, from which each instance takes blocks of units. What is in no
//! block is never spent, so no crash can overspend it: it loses the blocks in block.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use crate::verification::limits::{
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

/// A block is what will be spent in such a time.
const BLOCK_DURATION: Duration = Duration::from_millis(500);
/// How long an instance goes by what it has read of what is left. Others may have given back since.
const BALANCE_VALID_FOR: Duration = Duration::from_secs(1);
/// A block that nobody has spent of for so long is given back.
const IDLE: Duration = Duration::from_secs(5);

/// What there is to say of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaStatus {
    pub quota: Quota,
    /// As many are left: in block, and as far as this instance knows in the database. What other
    /// instances have in block is taken.
    pub remaining: u64,
    /// When the period began; in 1970 if it never ends.
    pub began_at: UtcTime,
    /// When the period ends; `None` if it never does.
    pub resets_at: Option<UtcTime>,
    /// The same as seconds from now, rounded up.
    pub reset_seconds: Option<u64>,
    /// How long the period lasts in all.
    pub window_seconds: Option<u64>,
}

/// What all of them share.
pub(super) struct Quotas {
    pub clock: Clock,
    pub boot: BootClock,
    pub reservations: Reservations,
    pub tasks: Tasks,
}

/// What an instance has in block of a quota.
pub(super) struct QuotaCounter {
    quotas: Arc<Quotas>,
    lineage_id: ApiKeyId,
    block: Mutex<Option<Block>>,
    refill_queue: RefillQueue,
}

struct Block {
    /// What they were taken of, and under which limit: they are good for nothing else.
    start: UtcTime,
    quota: Quota,
    units: u64,
    /// What was in block before, of another period or limit: it is given back with what is asked for next.
    stale: Option<(QuotaPeriod, u64)>,
    /// As many were left in the database, and when that was so. `None` if it was never asked.
    left: Option<(u64, Tick)>,
    prefetch_size: PrefetchSize,
    spent_at: Tick,
}

/// Whether units were taken, and how it stands then.
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

    /// Takes units, all of them or none. An error means that nobody can tell.
    pub(super) async fn charge(
        self: &Arc<Self>,
        quota: Quota,
        units: u64,
    ) -> Result<QuotaResult, Error> {
        refill::take(self, quota, units).await
    }

    /// Units that were taken like this and not used after all. They have not left the block for long, and
    /// quotas do not leak.
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

    /// Gives back what is in block, if nobody has spent of it for a while.
    pub(super) fn give_back_idle(&self) {
        let now = self.quotas.boot.now();
        let mut block = self.block();
        if block
            .as_ref()
            .is_some_and(|block| now.since(block.spent_at) >= IDLE)
        {
            self.empty(&mut block);
        }
    }

    /// Gives back what is in block.
    pub(super) fn give_back(&self) {
        self.empty(&mut self.block());
    }

    /// What was known of the database is not so any more, then.
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

    /// What is in block of this quota in the period that it is. Anything else is given back.
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
        let known = block
            .left
            .filter(|(_, at)| tick.since(*at) < BALANCE_VALID_FOR);
        if units == 0 {
            return match known {
                Some(_) => Taken::Done((true, block.status(now))),
                None => Taken::Refill,
            };
        }
        if units <= block.units {
            block.units -= units;
            block.spent_at = tick;
            block.prefetch_size.spend(units);
            let result = (true, block.status(now));
            return match block.prefetch_size.is_nearly_empty(block.units) && block.may_be_left() {
                true => Taken::NearlyEmpty(result),
                false => Taken::Done(result),
            };
        }
        match known {
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
            // In between the period ended, or the quota was changed.
            Some(block) if reserved.units > 0 && block.stale.is_none() => {
                block.stale = Some((period, reserved.units));
            }
            _ if reserved.units > 0 => reservations.give_back(period, reserved.units),
            _ => {}
        }
        Ok(())
    }

    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static) {
        self.quotas.tasks.spawn(traces::carried(refill));
    }
}

impl Block {
    /// Whether it is worth asking for more.
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
