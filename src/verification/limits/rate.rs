//! Counter of one rate limit: local to this instance, or shared with all instances through Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::{
    bucket::Bucket,
    prefetched::{Allotment, Prefetched, RateStatus, status},
    refill::{self, RefillQueue, Refillable, Taken},
    registry::Counter,
};
use crate::{
    domain::{boot_clock::BootClock, clock::Clock, error::Error, limit::RateLimit},
    redis::{Redis, TokenRequest},
    telemetry::traces,
};

/// Time that a request waits for tokens from Redis.
pub(super) const REDIS_WAIT: Duration = Duration::from_millis(50);

/// Part of the window for which prefetched tokens may be spent, at most a second. It bounds the part of the limit
/// that an instance may hold without using it.
const ALLOTMENTS_PER_WINDOW: u32 = 50;
/// Shortest lifetime. Tokens that arrive just within [`REDIS_WAIT`] have half of it left.
const SHORTEST_LIFETIME: Duration = REDIS_WAIT.saturating_mul(2);
const LONGEST_LIFETIME: Duration = Duration::from_secs(1);
/// Redis counts a lifetime longer by this part of it than the instance does, since the instance's clock may be slow.
const LIFETIME_MARGIN: u32 = 50;

/// Clocks, Redis client and number of instances, shared by all rate limit counters.
pub(super) struct Rates {
    pub clock: Clock,
    pub boot: BootClock,
    /// Shared buckets. `None` if each instance counts for itself.
    pub redis: Option<Redis>,
    /// Number of live instances.
    pub instances: Arc<AtomicUsize>,
}

/// Counter of one rate limit.
pub(super) struct RateCounter {
    rates: Arc<Rates>,
    local: Mutex<Local>,
    shared: Option<Box<Shared>>,
    refill_queue: RefillQueue,
}

/// Bucket of this instance, used without Redis and while Redis is unreachable.
struct Local {
    bucket: Bucket,
    /// Tokens spent while Redis was unreachable that were not reported to it yet.
    unreported: u64,
}

/// This instance's part of a bucket in Redis.
struct Shared {
    /// Redis key of the bucket.
    name: String,
    prefetched: Mutex<Prefetched>,
}

/// True if tokens were taken, and the status afterwards.
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
            // Too late for this request. Its tokens may be on their way to another request.
            (_, Some(shared)) => {
                let mut late = lock(&shared.prefetched).status(limit, tokens);
                late.reset_seconds = late.reset_seconds.max(1);
                (tokens == 0, late)
            }
        }
    }

    /// Returns the status if this instance knows that so many tokens are not available.
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

    /// Takes tokens of this instance's share, while Redis is unreachable.
    fn take_share(&self, limit: RateLimit, tokens: u64) -> RateResult {
        self.take_local(limit, self.share(limit), tokens)
    }

    /// Takes tokens of the local bucket, which enforces `local_limit`. The status names `limit`.
    fn take_local(&self, limit: RateLimit, local_limit: RateLimit, tokens: u64) -> RateResult {
        let mut local = lock(&self.local);
        // Read with the lock held: a time earlier than the last caller's would look like a clock set back.
        let now = self.rates.clock.millis();
        local.bucket.set_limit(local_limit, now);
        let fits = local.bucket.take(tokens, now);
        if fits {
            local.unreported = local.unreported.saturating_add(tokens);
        }
        let rejected = if fits { 0 } else { tokens };
        (fits, status(limit, &local.bucket, rejected))
    }

    /// Returns the shared part, if Redis is configured and reachable.
    fn reachable(&self) -> Option<&Shared> {
        let redis = self.rates.redis.as_ref()?;
        self.shared.as_deref().filter(|_| redis.is_reachable())
    }

    /// Returns the limit that the local bucket enforces: the whole limit without Redis, else this instance's share.
    /// The share's bucket starts as full as the shared bucket was when last reported.
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
            return if prefetched.is_nearly_empty() {
                Taken::NearlyEmpty(result)
            } else {
                Taken::Done(result)
            };
        }
        if prefetched.may_have(tokens) {
            Taken::Refill
        } else {
            Taken::Done((false, prefetched.status(limit, tokens)))
        }
    }

    async fn refill(&self, limit: RateLimit) -> Result<(), Error> {
        let (Some(redis), Some(shared)) = (&self.rates.redis, &self.shared) else {
            return Ok(());
        };
        let lifetime = allotment_lifetime(limit);
        let requested_at = self.rates.boot.now();
        let (request, unreported) = {
            let mut prefetched = lock(&shared.prefetched);
            let now = self.rates.clock.millis();
            prefetched.update(limit, now, requested_at);
            let mut local = lock(&self.local);
            local.bucket.leak(now);
            let (minimum, waiting) = self.refill_queue.waiting();
            let tokens = prefetched.tokens();
            let request = TokenRequest {
                limit,
                minimum: minimum.saturating_sub(tokens),
                waiting: waiting.saturating_sub(tokens),
                prefetch: prefetched.prefetch_size.next(requested_at, lifetime / 2),
                lifetime: lifetime + lifetime / LIFETIME_MARGIN,
                floor: prefetched.bucket.used(),
                // Redis may have lost its data between two connections.
                raises: prefetched.connection != redis.connection_number(),
                unreported: local.unreported.min(local.bucket.used()),
            };
            if request.waiting + request.prefetch == 0 && prefetched.has_recent_report(requested_at)
            {
                return Ok(());
            }
            (request, local.unreported)
        };
        // On failure Redis is unreachable, and `Redis` logs the cause. Requests then use the share.
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
        // Tokens taken for requests that have stopped waiting are dropped: they were not meant to be prefetched.
        let (_, waiting) = self.refill_queue.waiting();
        let tokens = grant.tokens.min(waiting.saturating_add(request.prefetch));
        prefetched
            .prefetch_size
            .granted(grant.tokens.saturating_sub(request.waiting));
        let until = requested_at.after(lifetime);
        prefetched.add(Allotment { tokens, until });
        let mut local = lock(&self.local);
        local.unreported = local.unreported.saturating_sub(unreported);
        Ok(())
    }

    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static) {
        // A refill that is dropped on shutdown loses only tokens that would soon have expired.
        tokio::spawn(traces::with_current_span(refill));
    }
}

/// Returns how long prefetched tokens may be spent.
fn allotment_lifetime(limit: RateLimit) -> Duration {
    let window = Duration::from_secs(limit.window_seconds().into());
    (window / ALLOTMENTS_PER_WINDOW).clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME)
}

impl Counter for RateCounter {
    fn is_idle(&self) -> bool {
        let (now, tick) = (self.rates.clock.millis(), self.rates.boot.now());
        let has_prefetched = |shared: &Shared| {
            let mut prefetched = lock(&shared.prefetched);
            let limit = prefetched.bucket.limit();
            prefetched.update(limit, now, tick);
            prefetched.tokens() > 0
        };
        let mut local = lock(&self.local);
        local.bucket.leak(now);
        let is_empty = local.bucket.used() == 0;
        drop(local);
        is_empty && !self.shared.as_deref().is_some_and(has_prefetched)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
