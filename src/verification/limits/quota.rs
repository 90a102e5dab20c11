//! A key's quota: counted in the database, from which each instance takes blocks of units. What is in no
//! block is never spent, so no crash can overspend it: it loses the blocks in hand.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    ahead::Pace,
    line::{self, Line, Supply, Taken},
    registry::Counter,
    reservations::Reservations,
    tasks::Tasks,
};
use crate::{
    core::{
        boot_clock::{BootClock, Tick},
        clock::{Clock, UtcTime},
        error::Error,
        id::ApiKeyId,
        limit::Quota,
        spans,
    },
    models::quota_usage::{Account, Demand},
};

/// A block is what will be spent in such a time.
const BLOCK: Duration = Duration::from_millis(500);
/// How long an instance goes by what it has read of what is left. Others may have given back since.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// A block that nobody has spent of for so long is given back.
const IDLE: Duration = Duration::from_secs(5);

/// What there is to say of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaStanding {
    pub quota: Quota,
    /// As many are left: in hand, and as far as this instance knows in the database. What other
    /// instances have in hand is taken.
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

/// What an instance has in hand of a quota.
pub(super) struct QuotaCounter {
    quotas: Arc<Quotas>,
    lineage_id: ApiKeyId,
    hand: Mutex<Option<Hand>>,
    line: Line,
}

struct Hand {
    /// What they were taken of, and under which limit: they are good for nothing else.
    start: UtcTime,
    quota: Quota,
    units: u64,
    /// What was in hand before, of another period or limit: it is given back with what is asked for next.
    stale: Option<(Account, u64)>,
    /// As many were left in the database, and when that was so. `None` if it was never asked.
    left: Option<(u64, Tick)>,
    pace: Pace,
    spent_at: Tick,
}

/// Whether units were taken, and how it stands then.
pub(super) type QuotaAnswer = (bool, QuotaStanding);

impl QuotaCounter {
    pub(super) fn new(quotas: Arc<Quotas>, lineage_id: ApiKeyId) -> Self {
        Self {
            quotas,
            lineage_id,
            hand: Mutex::default(),
            line: Line::default(),
        }
    }

    /// Takes units, all of them or none. An error means that nobody can tell.
    pub(super) async fn charge(
        self: &Arc<Self>,
        quota: Quota,
        units: u64,
    ) -> Result<QuotaAnswer, Error> {
        line::take(self, quota, units).await
    }

    /// Units that were taken like this and not used after all. They have not left the hand for long, and
    /// quotas do not leak.
    pub(super) fn put_back(&self, taken: &QuotaStanding, units: u64) {
        let mut hand = self.hand();
        match &mut *hand {
            Some(hand) if hand.quota == taken.quota && hand.start == taken.began_at => {
                hand.units += units;
            }
            _ => {
                let account = self.account(taken.quota, taken.began_at);
                self.quotas.reservations.give_back(account, units);
            }
        }
    }

    /// Gives back what is in hand, if nobody has spent of it for a while.
    pub(super) fn give_back_idle(&self) {
        let now = self.quotas.boot.now();
        let mut hand = self.hand();
        if hand
            .as_ref()
            .is_some_and(|hand| now.since(hand.spent_at) >= IDLE)
        {
            self.empty(&mut hand);
        }
    }

    /// Gives back what is in hand.
    pub(super) fn give_back(&self) {
        self.empty(&mut self.hand());
    }

    /// What was known of the database is not so any more, then.
    fn empty(&self, hand: &mut Option<Hand>) {
        let has_any = |hand: &mut Hand| hand.units > 0 || hand.stale.is_some();
        if let Some(hand) = hand.take_if(has_any) {
            let account = self.account(hand.quota, hand.start);
            let units = Some((account, hand.units)).filter(|_| hand.units > 0);
            for (account, units) in hand.stale.into_iter().chain(units) {
                self.quotas.reservations.give_back(account, units);
            }
        }
    }

    fn account(&self, quota: Quota, start: UtcTime) -> Account {
        Account {
            lineage_id: self.lineage_id,
            period: quota.period(),
            start,
        }
    }

    /// What is in hand of this quota in the period that it is. Anything else is given back.
    fn hand_of<'a>(&self, hand: &'a mut Option<Hand>, quota: Quota, now: UtcTime) -> &'a mut Hand {
        let start = quota.period().start(now);
        let tick = self.quotas.boot.now();
        let mut stale = None;
        if let Some(old) = hand
            && (old.quota != quota || old.start != start)
        {
            if old.units > 0 && old.stale.is_none() {
                stale = Some((self.account(old.quota, old.start), old.units));
            } else {
                self.empty(hand);
            }
            *hand = None;
        }
        hand.get_or_insert_with(|| Hand {
            start,
            quota,
            units: 0,
            stale,
            left: None,
            pace: Pace::new(tick),
            spent_at: tick,
        })
    }

    fn hand(&self) -> MutexGuard<'_, Option<Hand>> {
        // Nothing panics while holding it.
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supply for QuotaCounter {
    type Limit = Quota;
    type Answer = QuotaAnswer;

    fn line(&self) -> &Line {
        &self.line
    }

    fn take(&self, quota: Quota, units: u64) -> Taken<QuotaAnswer> {
        let tick = self.quotas.boot.now();
        let mut hand = self.hand();
        let now = self.quotas.clock.now();
        let hand = self.hand_of(&mut hand, quota, now);
        let known = hand.left.filter(|(_, at)| tick.since(*at) < KNOWN_FOR);
        if units == 0 {
            return match known {
                Some(_) => Taken::Done((true, hand.standing(now))),
                None => Taken::Ask,
            };
        }
        if units <= hand.units {
            hand.units -= units;
            hand.spent_at = tick;
            hand.pace.spend(units);
            let answer = (true, hand.standing(now));
            return match hand.pace.is_nearly_out(hand.units) && hand.may_be_left() {
                true => Taken::NearlyOut(answer),
                false => Taken::Done(answer),
            };
        }
        match known {
            Some((left, _)) if left + hand.units < units => {
                Taken::Done((false, hand.standing(now)))
            }
            _ => Taken::Ask,
        }
    }

    async fn refill(&self, quota: Quota) -> Result<(), Error> {
        let (account, demand, stale) = {
            let mut hand = self.hand();
            let hand = self.hand_of(&mut hand, quota, self.quotas.clock.now());
            let (least, waiting) = self.line.waiting();
            let demand = Demand {
                least: least.saturating_sub(hand.units),
                waiting: waiting.saturating_sub(hand.units),
                ahead: hand.pace.next(self.quotas.boot.now(), BLOCK),
            };
            (self.account(quota, hand.start), demand, hand.stale.take())
        };
        let reservations = &self.quotas.reservations;
        let reserved = reservations.reserve(account, quota, demand, stale).await?;
        let now = self.quotas.boot.now();
        let mut hand = self.hand();
        match &mut *hand {
            Some(hand) if hand.quota == quota && hand.start == account.start => {
                hand.units += reserved.units;
                hand.pace
                    .granted(reserved.units.saturating_sub(demand.waiting));
                hand.left = Some((reserved.left, now));
            }
            // In between the period ended, or the quota was changed.
            Some(hand) if reserved.units > 0 && hand.stale.is_none() => {
                hand.stale = Some((account, reserved.units));
            }
            _ if reserved.units > 0 => reservations.give_back(account, reserved.units),
            _ => {}
        }
        Ok(())
    }

    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static) {
        self.quotas.tasks.spawn(spans::carried(refill));
    }
}

impl Hand {
    /// Whether it is worth asking for more.
    fn may_be_left(&self) -> bool {
        self.left.is_none_or(|(left, _)| left > 0)
    }

    fn standing(&self, now: UtcTime) -> QuotaStanding {
        let resets_at = self.quota.period().end(self.start);
        let seconds = |since: UtcTime, end: UtcTime| {
            let micros = end.since(since).as_micros();
            u64::try_from(micros.div_ceil(1_000_000)).unwrap_or(u64::MAX)
        };
        QuotaStanding {
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
        let hand = self.hand();
        hand.as_ref()
            .is_none_or(|hand| hand.units == 0 && hand.stale.is_none())
    }
}
