//! A key's rate limit: counted here, or where all instances count.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::{
    bucket::Bucket,
    hand::{Hand, Lease, RateStanding, standing},
    line::{self, Line, Supply, Taken},
    redis::{Draw, Store},
    registry::Counter,
};
use crate::core::{boot_clock::BootClock, clock::Clock, error::Error, limit::RateLimit, spans};

/// How long a request waits for where all count.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// A lease on units is this part of the window, and no longer than a second: so much of the limit an
/// instance may have in hand, at the most, that nobody uses.
const LEASES_IN_WINDOW: u32 = 50;
/// What is waited for comes with half of it left.
const SHORTEST_LEASE: Duration = PATIENCE.saturating_mul(2);
const LONGEST_LEASE: Duration = Duration::from_secs(1);
/// The store counts a lease a little longer than its holder, whose clock may be slow.
const LEASE_MARGIN: u32 = 50;

/// What all of them share.
pub(super) struct Rates {
    pub clock: Clock,
    pub boot: BootClock,
    /// Where all instances count; without it each counts for itself.
    pub store: Option<Store>,
    /// How many there are.
    pub instances: Arc<AtomicUsize>,
}

/// What is taken of a rate limit.
pub(super) struct RateCounter {
    rates: Arc<Rates>,
    own: Mutex<Own>,
    shared: Option<Box<Shared>>,
    line: Line,
}

/// What this instance counts by itself.
struct Own {
    bucket: Bucket,
    /// Units that were taken while the store was away, and that it does not know of yet.
    untold: u64,
}

/// What it takes from where all count.
struct Shared {
    /// What the bucket is called there.
    name: String,
    hand: Mutex<Hand>,
}

/// Whether units were taken, and how it stands then.
pub(super) type RateAnswer = (bool, RateStanding);

impl RateCounter {
    pub(super) fn new(rates: Arc<Rates>, name: impl FnOnce() -> String, limit: RateLimit) -> Self {
        let (now, tick) = (rates.clock.millis(), rates.boot.now());
        let bucket = Bucket::empty(limit, now);
        let shared = rates.store.as_ref().map(|_| {
            Box::new(Shared {
                name: name(),
                hand: Mutex::new(Hand::new(limit, now, tick)),
            })
        });
        Self {
            rates,
            own: Mutex::new(Own { bucket, untold: 0 }),
            shared,
            line: Line::default(),
        }
    }

    /// Takes units, all of them or none.
    pub(super) async fn charge(self: &Arc<Self>, limit: RateLimit, units: u64) -> RateAnswer {
        if self.shared.is_none() {
            return self.take_own(limit, limit, units);
        }
        match (
            timeout(PATIENCE, line::take(self, limit, units)).await,
            self.in_reach(),
        ) {
            (Ok(Ok(answer)), _) => answer,
            (_, None) => self.take_share(limit, units),
            // Too slow for this request, whose units may be on their way to another.
            (_, Some(shared)) => {
                let mut late = lock(&shared.hand).standing(limit, units);
                late.reset_seconds = late.reset_seconds.max(1);
                (units == 0, late)
            }
        }
    }

    /// How it stands, if by what is known so many cannot be taken.
    pub(super) fn refusal(&self, limit: RateLimit, units: u64) -> Option<RateStanding> {
        let (now, tick) = (self.rates.clock.millis(), self.rates.boot.now());
        if let Some(shared) = self.in_reach() {
            let mut hand = lock(&shared.hand);
            hand.update(limit, now, tick);
            return (!hand.may_have(units)).then(|| hand.standing(limit, units));
        }
        let share = self.share(limit);
        let mut own = lock(&self.own);
        own.bucket.set_limit(share, now);
        own.bucket.leak(now);
        (own.bucket.left() < units).then(|| standing(limit, &own.bucket, units))
    }

    /// What it counts by itself while the store is away.
    fn take_share(&self, limit: RateLimit, units: u64) -> RateAnswer {
        self.take_own(limit, self.share(limit), units)
    }

    /// What it counts by itself, as much as it may.
    fn take_own(&self, limit: RateLimit, own_limit: RateLimit, units: u64) -> RateAnswer {
        let mut own = lock(&self.own);
        // With the lock held: a time from before somebody else's would count as going back.
        let now = self.rates.clock.millis();
        own.bucket.set_limit(own_limit, now);
        let fits = own.bucket.take(units, now);
        if fits {
            own.untold = own.untold.saturating_add(units);
        }
        let refused = if fits { 0 } else { units };
        (fits, standing(limit, &own.bucket, refused))
    }

    /// The store's part of it, while it can be reached.
    fn in_reach(&self) -> Option<&Shared> {
        let store = self.rates.store.as_ref()?;
        self.shared.as_deref().filter(|_| store.is_in_reach())
    }

    /// What this instance may take by itself: without a store all of it, else its share, which begins as
    /// full as the common bucket was when it was last heard of.
    fn share(&self, limit: RateLimit) -> RateLimit {
        let Some(shared) = &self.shared else {
            return limit;
        };
        let share = limit.share(self.rates.instances.load(Ordering::Relaxed));
        let mut hand = lock(&shared.hand);
        let mut own = lock(&self.own);
        if own.untold == 0 {
            let now = self.rates.clock.millis();
            hand.update(limit, now, self.rates.boot.now());
            let used = u128::from(hand.bucket.used()) * u128::from(share.limit());
            let used = used.div_ceil(limit.limit().into());
            let used = u64::try_from(used).unwrap_or(u64::MAX).min(share.limit());
            own.bucket.set_limit(share, now);
            own.bucket.leak(now);
            if own.bucket.used() < used {
                own.bucket = Bucket::new(share, used, 0, now);
            }
        }
        share
    }
}

impl Supply for RateCounter {
    type Limit = RateLimit;
    type Answer = RateAnswer;

    fn line(&self) -> &Line {
        &self.line
    }

    fn take(&self, limit: RateLimit, units: u64) -> Taken<RateAnswer> {
        let Some(shared) = self.in_reach() else {
            return Taken::Done(self.take_share(limit, units));
        };
        let mut hand = lock(&shared.hand);
        let tick = self.rates.boot.now();
        hand.update(limit, self.rates.clock.millis(), tick);
        if units == 0 && !hand.has_heard(tick) {
            return Taken::Ask;
        }
        if hand.spend(units) {
            let answer = (true, hand.standing(limit, 0));
            return match hand.is_nearly_out() {
                true => Taken::NearlyOut(answer),
                false => Taken::Done(answer),
            };
        }
        match hand.may_have(units) {
            true => Taken::Ask,
            false => Taken::Done((false, hand.standing(limit, units))),
        }
    }

    async fn refill(&self, limit: RateLimit) -> Result<(), Error> {
        let (Some(store), Some(shared)) = (&self.rates.store, &self.shared) else {
            return Ok(());
        };
        let lease = lease_of(limit);
        let asked = self.rates.boot.now();
        let (draw, untold) = {
            let mut hand = lock(&shared.hand);
            let now = self.rates.clock.millis();
            hand.update(limit, now, asked);
            let mut own = lock(&self.own);
            own.bucket.leak(now);
            let (least, waiting) = self.line.waiting();
            let units = hand.units();
            let draw = Draw {
                limit,
                least: least.saturating_sub(units),
                waiting: waiting.saturating_sub(units),
                ahead: hand.pace.next(asked, lease / 2),
                lease: lease + lease / LEASE_MARGIN,
                floor: hand.bucket.used(),
                // A connection later it may have lost what it knew.
                raises: hand.link != store.link(),
                untold: own.untold.min(own.bucket.used()),
            };
            if draw.waiting + draw.ahead == 0 && hand.has_heard(asked) {
                return Ok(());
            }
            (draw, own.untold)
        };
        // Where it fails, the store is away, and says so.
        let Ok((drawn, link)) = store.draw(&shared.name, draw).await else {
            return Ok(());
        };
        let mut hand = lock(&shared.hand);
        let (now, tick) = (self.rates.clock.millis(), self.rates.boot.now());
        hand.hear(
            Bucket::new(limit, drawn.used, drawn.leaked, now),
            link,
            tick,
        );
        // Who waited and has gone since leaves what nobody was to have in hand.
        let (_, waiting) = self.line.waiting();
        let units = drawn.units.min(waiting.saturating_add(draw.ahead));
        hand.pace.granted(drawn.units.saturating_sub(draw.waiting));
        let until = asked.after(lease);
        hand.add(Lease { units, until });
        let mut own = lock(&self.own);
        own.untold = own.untold.saturating_sub(untold);
        Ok(())
    }

    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static) {
        // If it does not come to its end, units are lost that would soon have been.
        tokio::spawn(spans::carried(refill));
    }
}

/// How long units may be in hand.
fn lease_of(limit: RateLimit) -> Duration {
    let window = Duration::from_secs(limit.window_seconds().into());
    (window / LEASES_IN_WINDOW).clamp(SHORTEST_LEASE, LONGEST_LEASE)
}

impl Counter for RateCounter {
    fn is_idle(&self) -> bool {
        let (now, tick) = (self.rates.clock.millis(), self.rates.boot.now());
        let in_hand = |shared: &Shared| {
            let mut hand = lock(&shared.hand);
            let limit = hand.bucket.limit();
            hand.update(limit, now, tick);
            hand.units() > 0
        };
        let mut own = lock(&self.own);
        own.bucket.leak(now);
        let is_empty = own.bucket.used() == 0;
        drop(own);
        is_empty && !self.shared.as_deref().is_some_and(in_hand)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
