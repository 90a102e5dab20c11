//! A key's rate limit: counted here, or where all instances count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::{
    domain::{boot_clock::BootClock, clock::Clock, error::Error, limit::RateLimit},
    telemetry::traces,
};
use crate::{
    redis::{Redis, TokenRequest},
    verification::limits::{
        bucket::Bucket,
        prefetched::{Allotment, Prefetched, RateStatus, status},
        refill::{self, RefillQueue, Refillable, Taken},
        registry::Counter,
    },
};

/// How long a request waits for where all count.
pub(super) const REDIS_WAIT: Duration = Duration::from_millis(50);

/// A lifetime on tokens is this part of the window, and no longer than a second: so much of the limit an
/// instance may have in prefetched, at the most, that nobody uses.
const ALLOTMENTS_PER_WINDOW: u32 = 50;
/// What is waited for comes with half of it left.
const SHORTEST_LIFETIME: Duration = REDIS_WAIT.saturating_mul(2);
const LONGEST_LIFETIME: Duration = Duration::from_secs(1);
/// The redis counts a lifetime a little longer than its holder, whose clock may be slow.
const LIFETIME_MARGIN: u32 = 50;

/// What all of them share.
pub(super) struct Rates {
    pub clock: Clock,
    pub boot: BootClock,
    /// Where all instances count; without it each counts for itself.
    pub redis: Option<Redis>,
    /// How many there are.
    pub instances: Arc<AtomicUsize>,
}

/// What is taken of a rate limit.
pub(super) struct RateCounter {
    rates: Arc<Rates>,
    local: Mutex<Local>,
    shared: Option<Box<Shared>>,
    refill_queue: RefillQueue,
}

/// What this instance counts by itself.
struct Local {
    bucket: Bucket,
    /// Units that were taken while the redis was away, and that it does not know of yet.
    unreported: u64,
}

/// What it takes from where all count.
struct Shared {
    /// What the bucket is called there.
    name: String,
    prefetched: Mutex<Prefetched>,
}

/// Whether tokens were taken, and how it stands then.
pub(super) type RateResult = (bool, RateStatus);

impl RateCounter {
    pub(super) fn new(rates: Arc<Rates>, name: impl FnOnce() -> String, limit: RateLimit) -> Self {
        let (now, tick) = (rates.clock.millis(), rates.boot.now());
        let bucket = Bucket::empty(limit, now);
        let shared = rates.redis.as_ref().map(|_| {
            Box::new(Shared {
                name: name(),
                prefetched: Mutex::new(Prefetched::new(limit, now, tick)),
            })
        });
        Self {
            rates,
            local: Mutex::new(Local {
                bucket,
                unreported: 0,
            }),
            shared,
            refill_queue: RefillQueue::default(),
        }
    }

    /// Takes tokens, all of them or none.
    pub(super) async fn charge(self: &Arc<Self>, limit: RateLimit, tokens: u64) -> RateResult {
        if self.shared.is_none() {
            return self.take_local(limit, limit, tokens);
        }
        match (
            timeout(REDIS_WAIT, refill::take(self, limit, tokens)).await,
            self.reachable(),
        ) {
            (Ok(Ok(result)), _) => result,
            (_, None) => self.take_share(limit, tokens),
            // Too slow for this request, whose tokens may be on their way to another.
            (_, Some(shared)) => {
                let mut late = lock(&shared.prefetched).status(limit, tokens);
                late.reset_seconds = late.reset_seconds.max(1);
                (tokens == 0, late)
            }
        }
    }

    /// How it stands, if by what is known so many cannot be taken.
    pub(super) fn status_if_full(&self, limit: RateLimit, tokens: u64) -> Option<RateStatus> {
        let (now, tick) = (self.rates.clock.millis(), self.rates.boot.now());
        if let Some(shared) = self.reachable() {
            let mut prefetched = lock(&shared.prefetched);
            prefetched.update(limit, now, tick);
            return (!prefetched.may_have(tokens)).then(|| prefetched.status(limit, tokens));
        }
        let share = self.share(limit);
        let mut local = lock(&self.local);
        local.bucket.set_limit(share, now);
        local.bucket.leak(now);
        (local.bucket.left() < tokens).then(|| status(limit, &local.bucket, tokens))
    }

    /// What it counts by itself while the redis is away.
    fn take_share(&self, limit: RateLimit, tokens: u64) -> RateResult {
        self.take_local(limit, self.share(limit), tokens)
    }

    /// What it counts by itself, as much as it may.
    fn take_local(&self, limit: RateLimit, local_limit: RateLimit, tokens: u64) -> RateResult {
        let mut local = lock(&self.local);
        // With the lock held: a time from before somebody else's would count as going back.
        let now = self.rates.clock.millis();
        local.bucket.set_limit(local_limit, now);
        let fits = local.bucket.take(tokens, now);
        if fits {
            local.unreported = local.unreported.saturating_add(tokens);
        }
        let refused = if fits { 0 } else { tokens };
        (fits, status(limit, &local.bucket, refused))
    }

    /// The redis's part of it, while it can be reached.
    fn reachable(&self) -> Option<&Shared> {
        let redis = self.rates.redis.as_ref()?;
        self.shared.as_deref().filter(|_| redis.is_reachable())
    }

    /// What this instance may take by itself: without a redis all of it, else its share, which begins as
    /// full as the common bucket was when it was last heard of.
    fn share(&self, limit: RateLimit) -> RateLimit {
        let Some(shared) = &self.shared else {
            return limit;
        };
        let share = limit.share(self.rates.instances.load(Ordering::Relaxed));
        let mut prefetched = lock(&shared.prefetched);
        let mut local = lock(&self.local);
        if local.unreported == 0 {
            let now = self.rates.clock.millis();
            prefetched.update(limit, now, self.rates.boot.now());
            let used = u128::from(prefetched.bucket.used()) * u128::from(share.limit());
            let used = used.div_ceil(limit.limit().into());
            let used = u64::try_from(used).unwrap_or(u64::MAX).min(share.limit());
            local.bucket.set_limit(share, now);
            local.bucket.leak(now);
            if local.bucket.used() < used {
                local.bucket = Bucket::new(share, used, 0, now);
            }
        }
        share
    }
}

impl Refillable for RateCounter {
    type Limit = RateLimit;
    type Output = RateResult;

    fn refill_queue(&self) -> &RefillQueue {
        &self.refill_queue
    }

    fn take(&self, limit: RateLimit, tokens: u64) -> Taken<RateResult> {
        let Some(shared) = self.reachable() else {
            return Taken::Done(self.take_share(limit, tokens));
        };
        let mut prefetched = lock(&shared.prefetched);
        let tick = self.rates.boot.now();
        prefetched.update(limit, self.rates.clock.millis(), tick);
        if tokens == 0 && !prefetched.has_recent_report(tick) {
            return Taken::Refill;
        }
        if prefetched.spend(tokens) {
            let result = (true, prefetched.status(limit, 0));
            return match prefetched.is_nearly_empty() {
                true => Taken::NearlyEmpty(result),
                false => Taken::Done(result),
            };
        }
        match prefetched.may_have(tokens) {
            true => Taken::Refill,
            false => Taken::Done((false, prefetched.status(limit, tokens))),
        }
    }

    async fn refill(&self, limit: RateLimit) -> Result<(), Error> {
        let (Some(redis), Some(shared)) = (&self.rates.redis, &self.shared) else {
            return Ok(());
        };
        let lifetime = allotment_lifetime(limit);
        let asked = self.rates.boot.now();
        let (request, unreported) = {
            let mut prefetched = lock(&shared.prefetched);
            let now = self.rates.clock.millis();
            prefetched.update(limit, now, asked);
            let mut local = lock(&self.local);
            local.bucket.leak(now);
            let (minimum, waiting) = self.refill_queue.waiting();
            let tokens = prefetched.tokens();
            let request = TokenRequest {
                limit,
                minimum: minimum.saturating_sub(tokens),
                waiting: waiting.saturating_sub(tokens),
                prefetch: prefetched.prefetch_size.next(asked, lifetime / 2),
                lifetime: lifetime + lifetime / LIFETIME_MARGIN,
                floor: prefetched.bucket.used(),
                // A connection later it may have lost what it knew.
                raises: prefetched.connection != redis.connection_number(),
                unreported: local.unreported.min(local.bucket.used()),
            };
            if request.waiting + request.prefetch == 0 && prefetched.has_recent_report(asked) {
                return Ok(());
            }
            (request, local.unreported)
        };
        // Where it fails, the redis is away, and says so.
        let Ok((grant, connection)) = redis.take_tokens(&shared.name, request).await else {
            return Ok(());
        };
        let mut prefetched = lock(&shared.prefetched);
        let (now, tick) = (self.rates.clock.millis(), self.rates.boot.now());
        prefetched.apply_report(
            Bucket::new(limit, grant.used, grant.leaked, now),
            connection,
            tick,
        );
        // Who waited and has gone since leaves what nobody was to have in prefetched.
        let (_, waiting) = self.refill_queue.waiting();
        let tokens = grant.tokens.min(waiting.saturating_add(request.prefetch));
        prefetched
            .prefetch_size
            .granted(grant.tokens.saturating_sub(request.waiting));
        let until = asked.after(lifetime);
        prefetched.add(Allotment { tokens, until });
        let mut local = lock(&self.local);
        local.unreported = local.unreported.saturating_sub(unreported);
        Ok(())
    }

    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static) {
        // If it does not come to its end, tokens are lost that would soon have been.
        tokio::spawn(traces::carried(refill));
    }
}

/// How long tokens may be in prefetched.
fn allotment_lifetime(limit: RateLimit) -> Duration {
    let window = Duration::from_secs(limit.window_seconds().into());
    (window / ALLOTMENTS_PER_WINDOW).clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME)
}

impl Counter for RateCounter {
    fn is_idle(&self) -> bool {
        let (now, tick) = (self.rates.clock.millis(), self.rates.boot.now());
        let in_hand = |shared: &Shared| {
            let mut prefetched = lock(&shared.prefetched);
            let limit = prefetched.bucket.limit();
            prefetched.update(limit, now, tick);
            prefetched.tokens() > 0
        };
        let mut local = lock(&self.local);
        local.bucket.leak(now);
        let is_empty = local.bucket.used() == 0;
        drop(local);
        is_empty && !self.shared.as_deref().is_some_and(in_hand)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
