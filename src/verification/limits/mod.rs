//! How much keys may be used: rate limits and quotas, of the lineage that rotated keys are of.
//!
//! # Rate limits
//!
//! A leaky bucket ([`bucket`]) per lineage. Without a redis each instance has its own, in key_cache. With
//! one (`redis.rs`, `take.lua`) all instances take of the same, and never more in sum than it would let one
//! instance take:
//!
//! - What was taken of it is taken for all. A unit that an instance has taken ahead and not spent does not
//!   leak out, as if it were not in the bucket yet, until its lease ends; then it is lost. So bucket and
//!   hands together never hold more than the limit, and what is spent of a hand fits at that moment.
//! - That it loses: units that were taken ahead and not used. A lease is a fiftieth of the window, at least
//!   100 ms and at most a second; no more is taken ahead than was used in half of one lately, or than a
//!   sixteenth of what is left.
//! - Who was refused is refused without asking until by what is known there could be room again: others can
//!   only have taken since.
//!
//! - Who is too late, though the redis can be reached, is refused: the units may be on their way to another.
//!
//! While the redis is away each instance counts its share, the limit divided by the live instances and
//! rounded up, beginning as full as the common bucket was when it was last heard of. When the redis is back,
//! each instance that takes of it tells it what it took meanwhile, and how full the bucket must be by what it
//! knows. What it cannot know is what was taken by instances that have not told yet. So in a window in which
//! the redis was away, a key gets at most its limit from the redis, its shares, and if the redis has lost
//! what it knew, its limit again: twice the limit, or three times, and one unit for each instance.
//!
//! # Quotas
//!
//! Counted in the database, in either case (`quota.rs`). An instance takes a block by an update that fails
//! where there are not enough units left, and spends it in key_cache. Nothing is spent that was not taken, and
//! nothing is given back whose giving back may have happened already. So no crash overspends; one that is
//! killed loses the blocks it had in hand. A block is what is used in half a second, and no more than a
//! sixteenth of what is left: near the end it is what is asked for.
//!
//! A request takes of the quota first, and puts that back if the rate limit refuses it; unless it can be seen
//! beforehand that it will.

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
use crate::redis::Redis;
use crate::verification::{cached_key::CachedKey, rejection::Rejection};
use crate::{
    config::LimitConfig,
    db::Db,
    domain::{boot_clock::BootClock, clock::Clock, error::Error, id::ApiKeyId, limit::RateLimit},
};
pub use crate::{
    redis::InvalidRedisUrl,
    verification::limits::{charge::LimitStatus, prefetched::RateStatus, quota::QuotaStatus},
};

/// How often it is looked for blocks that nobody spends of.
const LOOK_FOR_IDLE: Duration = Duration::from_millis(2500);
/// How long who stops waits until everything is given back.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Client addresses whose signups are counted at once.
const MAX_ADDRESSES: usize = 50_000;

/// What is counted of keys. Clones share it.
#[derive(Clone)]
pub struct Limits {
    shared: Arc<Shared>,
}

struct Shared {
    default_rate_limit: Option<RateLimit>,
    signup_rate_limit: Option<RateLimit>,
    rates: Arc<Rates>,
    quotas: Arc<Quotas>,
    of_keys: Registry<ApiKeyId, RateCounter>,
    of_signups: Registry<IpAddr, RateCounter>,
    quotas_of_keys: Registry<ApiKeyId, QuotaCounter>,
}

impl Limits {
    /// `instances` is how many there are.
    pub(super) fn new(
        config: &LimitConfig,
        max_keys: usize,
        db: Db,
        (clock, boot): (Clock, BootClock),
        instances: Arc<AtomicUsize>,
    ) -> Result<Self, InvalidRedisUrl> {
        // Those of the keys that are remembered, and as many whose last use is not over yet.
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
                of_keys: Registry::new(bound),
                of_signups: Registry::new(MAX_ADDRESSES),
                quotas_of_keys: Registry::new(bound),
            }),
        })
    }

    /// Where all instances count, if there is such a place.
    pub fn redis(&self) -> Option<&Redis> {
        self.shared.rates.redis.as_ref()
    }

    /// How many blocks of quotas were taken in the database so far.
    pub fn quota_blocks_taken(&self) -> u64 {
        self.shared.quotas.reservations.taken()
    }

    /// Takes units of a key's limits, all of them or none.
    pub(super) async fn charge(
        &self,
        key: &CachedKey,
        units: u64,
    ) -> Result<(LimitStatus, Option<Rejection>), Error> {
        match key.counters(|| self.shared.counters(key)) {
            Some(counters) => counters.charge(units).await,
            None => Ok((LimitStatus::default(), None)),
        }
    }

    /// How it stands with a key's limits, as far as that is known at once.
    pub(super) async fn look(&self, key: &CachedKey) -> LimitStatus {
        match key.counters(|| self.shared.counters(key)) {
            Some(counters) => counters.look().await,
            None => LimitStatus::default(),
        }
    }

    /// Refuses a client address from which too many have signed up lately.
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
        let counter = self.shared.of_signups.get(address, make, |_| {});
        match counter.charge(limit, 1).await {
            (true, _) => Ok(()),
            (false, status) => Err(Error::TooManyAttempts {
                retry_after_seconds: status.reset_seconds,
            }),
        }
    }

    /// Does what must be done all the time, for ever.
    pub(super) async fn keep(&self) {
        self.shared.quotas.tasks.run_here();
        let give_back = async {
            loop {
                tokio::time::sleep(LOOK_FOR_IDLE).await;
                let counters = &self.shared.quotas_of_keys;
                counters.for_each(|counter| counter.give_back_idle());
                self.shared.quotas.reservations.retry();
            }
        };
        match self.redis() {
            Some(redis) => tokio::join!(redis.keep(), give_back).1,
            None => give_back.await,
        }
    }

    /// Gives back what is in hand.
    pub(super) async fn close(&self) {
        let Quotas {
            reservations,
            tasks,
            ..
        } = &*self.shared.quotas;
        let close = async {
            // What is under way comes into a hand first.
            tasks.ended().await;
            let counters = &self.shared.quotas_of_keys;
            counters.for_each(|counter| counter.give_back());
            reservations.finish().await;
        };
        let _ = timeout(CLOSE_WITHIN, close).await;
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
            (limit, self.of_keys.get(lineage, make, |_| {}))
        });
        let quota = key.limits.quota().map(|quota| {
            let make = || QuotaCounter::new(self.quotas.clone(), lineage);
            let counters = &self.quotas_of_keys;
            (quota, counters.get(lineage, make, QuotaCounter::give_back))
        });
        (rate.is_some() || quota.is_some()).then_some(Counters { rate, quota })
    }
}

/// One who holds an IPv6 network has all of its addresses: what counts is the /64.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}
