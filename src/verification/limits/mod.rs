//! Rate limits and quotas of API keys. A key and its rotated successors form a lineage and share their limits.
//!
//! # Rate limits
//!
//! Each lineage has a leaky bucket ([`bucket`]). Without Redis, each instance keeps its own bucket in memory. With
//! Redis (`redis/tokens.rs`, `redis/take.lua`), all instances take tokens from one shared bucket. Together they
//! never take more than a single instance could take from it:
//!
//! - Tokens that one instance takes are taken for all instances. An instance may prefetch tokens and spend them
//!   later. Prefetched tokens do not leak out of the bucket before they are spent, as if they were not in it yet.
//!   After their lifetime they expire and are lost. So the bucket and all prefetched tokens together never exceed
//!   the limit, and every prefetched token fits into the bucket at the moment it is spent.
//! - The price is the tokens that are prefetched and expire unspent. A lifetime is 1/50 of the window, at least
//!   100 ms and at most 1 s. An instance prefetches at most what it recently spent in half a lifetime, and at most
//!   1/16 of what is left in the bucket.
//! - After a rejection, an instance rejects further requests without asking Redis until the bucket, as last
//!   reported, could have room again. Other instances can only have taken tokens since that report.
//! - A request whose tokens arrive too late is rejected if Redis is reachable: its tokens may be on their way to
//!   another request.
//!
//! While Redis is unreachable, each instance enforces its share: the limit divided by the number of live
//! instances, rounded up. The bucket of the share starts as full as the shared bucket was when last reported. When
//! Redis is back, each instance that takes tokens reports how many it spent meanwhile, and how full the shared
//! bucket must be at least. Redis does not know the tokens spent by instances that have not reported yet. So in a
//! window during which Redis was unreachable, a key gets at most:
//!
//! - its limit from Redis,
//! - the shares of all instances: the limit again, and one token per instance because of the rounding,
//! - its limit once more if Redis has lost its data.
//!
//! # Quotas
//!
//! Quotas are counted in the database, with or without Redis (`quota.rs`). An instance takes a block of units by an
//! update that fails if too few units are left, and spends the block in memory. No unit is spent that was not taken.
//! No unit is given back whose return may already have succeeded. So no crash overspends a quota; an instance that
//! is killed loses its blocks. A block covers the units spent in half a second, and at most 1/16 of what is left:
//! near the end of a quota it is exactly what requests ask for.
//!
//! A request takes its units from the quota first, and puts them back if the rate limit rejects it. If the rate
//! limit is known to be exhausted, the request takes nothing from the quota.

pub mod bucket;
mod charge;
mod prefetch_size;
mod prefetched;
mod quota;
mod rate;
mod refill;
mod registry;
mod reservations;
mod tasks;

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::time::timeout;

pub(super) use self::charge::Counters;
use self::{
    quota::{QuotaCounter, Quotas},
    rate::{RateCounter, Rates},
    registry::Registry,
    reservations::Reservations,
    tasks::Tasks,
};
use super::{cached_key::CachedKey, rejection::Rejection};
use crate::{
    config::LimitConfig,
    db::Db,
    domain::{boot_clock::BootClock, clock::Clock, error::Error, id::ApiKeyId, limit::RateLimit},
    redis::Redis,
};
pub use crate::{
    redis::InvalidRedisUrl,
    verification::limits::{charge::LimitStatus, prefetched::RateStatus, quota::QuotaStatus},
};

/// Interval between checks for idle quota blocks.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(2500);
/// Time limit for giving back quota blocks on shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of client addresses whose signups are counted.
const MAX_SIGNUP_ADDRESSES: usize = 50_000;

/// Counters of rate limits and quotas. Clones share them.
#[derive(Clone)]
pub struct Limits {
    shared: Arc<Shared>,
}

struct Shared {
    default_rate_limit: Option<RateLimit>,
    signup_rate_limit: Option<RateLimit>,
    rates: Arc<Rates>,
    quotas: Arc<Quotas>,
    rate_counters: Registry<ApiKeyId, RateCounter>,
    signup_counters: Registry<IpAddr, RateCounter>,
    quota_counters: Registry<ApiKeyId, QuotaCounter>,
}

impl Limits {
    /// Creates the counters. `instances` is the number of live instances.
    pub(super) fn new(
        config: &LimitConfig,
        max_keys: usize,
        db: Db,
        (clock, boot): (Clock, BootClock),
        instances: Arc<AtomicUsize>,
    ) -> Result<Self, InvalidRedisUrl> {
        // Counters of all cached keys, and as many of evicted keys that are not idle yet.
        let bound = max_keys.saturating_mul(2);
        let rates = Arc::new(Rates {
            clock: clock.clone(),
            boot,
            redis: config.redis_url.as_ref().map(Redis::new).transpose()?,
            instances,
        });
        let tasks = Tasks::new();
        let quotas = Arc::new(Quotas {
            clock,
            boot,
            reservations: Reservations::new(db, tasks.clone()),
            tasks,
        });
        Ok(Self {
            shared: Arc::new(Shared {
                default_rate_limit: config.default_rate_limit,
                signup_rate_limit: config.signup_rate_limit,
                rates,
                quotas,
                rate_counters: Registry::new(bound),
                signup_counters: Registry::new(MAX_SIGNUP_ADDRESSES),
                quota_counters: Registry::new(bound),
            }),
        })
    }

    /// Returns the Redis client, if Redis is configured.
    pub fn redis(&self) -> Option<&Redis> {
        self.shared.rates.redis.as_ref()
    }

    /// Returns the number of quota blocks that were taken in the database.
    pub fn quota_blocks_taken(&self) -> u64 {
        self.shared.quotas.reservations.taken()
    }

    /// Charges a request's cost to a key's limits, in full or not at all.
    pub(super) async fn charge(
        &self,
        key: &CachedKey,
        cost: u64,
    ) -> Result<(LimitStatus, Option<Rejection>), Error> {
        match key.counters(|| self.shared.counters(key)) {
            Some(counters) => counters.charge(cost).await,
            None => Ok((LimitStatus::default(), None)),
        }
    }

    /// Returns the status of a key's limits without charging them. Waits at most [`rate::REDIS_WAIT`]; a quota that
    /// is not known by then is left out.
    pub(super) async fn look(&self, key: &CachedKey) -> LimitStatus {
        match key.counters(|| self.shared.counters(key)) {
            Some(counters) => counters.status().await,
            None => LimitStatus::default(),
        }
    }

    /// Counts a signup, or rejects it if there were too many from this client address.
    pub async fn charge_signup(&self, address: IpAddr) -> Result<(), Error> {
        let Some(limit) = self.shared.signup_rate_limit else {
            return Ok(());
        };
        let address = network_of(address);
        let rates = &self.shared.rates;
        let make = || {
            let name = || format!("latchkey:signup:{address}");
            RateCounter::new(rates.clone(), name, limit)
        };
        let counter = self.shared.signup_counters.get(address, make, |_| {});
        match counter.charge(limit, 1).await {
            (true, _) => Ok(()),
            (false, status) => Err(Error::TooManyAttempts {
                retry_after_seconds: status.reset_seconds,
            }),
        }
    }

    /// Keeps the connection to Redis and gives idle quota blocks back. Never returns.
    pub(super) async fn keep(&self) {
        self.shared.quotas.tasks.run_here();
        let give_back = async {
            loop {
                tokio::time::sleep(IDLE_CHECK_INTERVAL).await;
                let counters = &self.shared.quota_counters;
                counters.for_each(|counter| counter.give_back_idle());
                self.shared.quotas.reservations.retry();
            }
        };
        match self.redis() {
            Some(redis) => tokio::join!(redis.keep(), give_back).1,
            None => give_back.await,
        }
    }

    /// Gives all quota blocks back, within [`CLOSE_TIMEOUT`].
    pub(super) async fn close(&self) {
        let Quotas {
            reservations,
            tasks,
            ..
        } = &*self.shared.quotas;
        let close = async {
            // Refills in progress must end first: they add to the blocks.
            tasks.wait_until_ended().await;
            let counters = &self.shared.quota_counters;
            counters.for_each(|counter| counter.give_back());
            reservations.finish().await;
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
    }
}

impl Shared {
    fn counters(&self, key: &CachedKey) -> Option<Counters> {
        let lineage = key.lineage_id;
        let limit = key.limits.rate_limit().or(self.default_rate_limit);
        let rate = limit.map(|limit| {
            let make = || {
                let name = || format!("latchkey:rate:{lineage}");
                RateCounter::new(self.rates.clone(), name, limit)
            };
            (limit, self.rate_counters.get(lineage, make, |_| {}))
        });
        let quota = key.limits.quota().map(|quota| {
            let make = || QuotaCounter::new(self.quotas.clone(), lineage);
            let counters = &self.quota_counters;
            (quota, counters.get(lineage, make, QuotaCounter::give_back))
        });
        (rate.is_some() || quota.is_some()).then_some(Counters { rate, quota })
    }
}

/// Returns the network that a client address is counted by. IPv6 clients are counted per /64: one subscriber
/// normally controls the whole prefix.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}
