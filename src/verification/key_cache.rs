//! Cache of API keys by digest, valid while this instance holds a lease on it.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    cache::{Bounds, Cache, Ticket, Use},
    cached_key::CachedKey,
    guard::{AllGuards, Guard, Guards},
};
use crate::{
    config::CacheConfig,
    domain::{
        api_key::KeyDigest,
        boot_clock::{BootClock, Tick},
    },
    models::key_change::Change,
};

/// Time to live of a cached key. The service invalidates the keys that it changes; this limit is for rows that somebody
/// edits manually in the database.
const KEY_TTL: Duration = Duration::from_secs(300);
/// Time to live of an entry of the negative cache.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);
/// Maximum number of entries of the negative cache. They take about 10 MB.
const MAX_NEGATIVE_ENTRIES: usize = 100_000;
/// Memory for each key that the cache may hold, in bytes.
const BYTES_PER_KEY: usize = 512;

/// Cache of keys, and a separate negative cache of digests that belong to no key.
///
/// The two are separate so that a flood of unknown keys cannot evict valid ones.
pub(super) struct KeyCache<G = AllGuards> {
    present: Cache<KeyDigest, Arc<CachedKey>>,
    /// Negative cache, with the time at which each entry was inserted.
    missing: Cache<KeyDigest, Tick>,
    boot: BootClock,
    /// Configured duration of a lease.
    lease: Duration,
    /// End of the current lease on the boot clock, or 0 without one.
    trusted_until: AtomicU64,
    guards: PhantomData<G>,
}

/// Sizes of the two caches.
#[derive(Debug, Clone, Copy)]
pub struct KeyCacheUsage {
    /// Cache of keys.
    pub present: Use,
    /// Negative cache: digests that belong to no key.
    pub missing: Use,
}

/// Status of the lease on the cache.
#[derive(Debug, Clone, Copy)]
pub struct LeaseStatus {
    /// Configured duration of a lease.
    pub lease: Duration,
    /// Remaining time. Zero without a lease.
    pub left: Duration,
    /// Time since the start of the renewal that granted the lease. `None` before the first renewal, and after the
    /// lease was given up.
    pub age: Option<Duration>,
}

/// Tickets to insert the result of a lookup into either cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tickets {
    present: Ticket,
    missing: Ticket,
}

impl<G: Guards> KeyCache<G> {
    /// Creates a cache without a lease. `None` if the cache is disabled.
    pub(super) fn new(config: &CacheConfig, boot: BootClock) -> Option<Self> {
        let entries = config.max_keys;
        (config.lease > Duration::ZERO).then(|| Self {
            present: Cache::new(Bounds {
                entries,
                // The minimum leaves room for a large key in a small cache.
                weight: entries.max(1000) * BYTES_PER_KEY,
            }),
            missing: Cache::new(Bounds {
                entries: MAX_NEGATIVE_ENTRIES,
                weight: MAX_NEGATIVE_ENTRIES,
            }),
            boot,
            lease: config.lease,
            trusted_until: AtomicU64::new(0),
            guards: PhantomData,
        })
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns whether this instance holds a lease, so that values found from now on may be used.
    pub(super) fn is_trusted(&self) -> bool {
        let now = self.boot.now();
        // Acquire pairs with the release in `trust_until`: a thread that sees the new expiry also sees all
        // invalidations before it.
        now.0 < self.trusted_until.load(Ordering::Acquire) || !G::enforces(Guard::LeaseExpires)
    }

    /// Grants a lease that expires at `expiry`.
    pub(super) fn trust_until(&self, expiry: Tick) {
        self.trusted_until.store(expiry.0, Ordering::Release);
    }

    /// Returns the status of the lease.
    pub(super) fn lease_status(&self) -> LeaseStatus {
        let now = self.boot.now();
        let expiry = Tick(self.trusted_until.load(Ordering::Acquire));
        let left = expiry.since(now);
        let expired_for = now.since(expiry);
        LeaseStatus {
            lease: self.lease,
            left,
            age: (expiry != Tick(0)).then(|| (self.lease + expired_for).saturating_sub(left)),
        }
    }

    /// Returns the sizes of both caches.
    pub(super) fn usage(&self) -> KeyCacheUsage {
        KeyCacheUsage {
            present: self.present.usage(),
            missing: self.missing.usage(),
        }
    }

    /// Gives up the lease.
    pub(super) fn distrust(&self) {
        self.trust_until(Tick(0));
    }

    /// Returns the cached key, or `None` if the digest is in the negative cache. On a miss returns the tickets to
    /// insert the result of a lookup.
    pub(super) fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<CachedKey>>, Tickets> {
        let now = self.boot.now();
        let present = match self.present.get(digest) {
            Ok(key) if key.age(now) < KEY_TTL => return Ok(Some(key)),
            Ok(_) => self.present.ticket(digest),
            Err(ticket) => ticket,
        };
        let missing = match self.missing.get(digest) {
            Ok(inserted) if now.since(inserted) < NEGATIVE_TTL => return Ok(None),
            Ok(_) => self.missing.ticket(digest),
            Err(ticket) => ticket,
        };
        Err(Tickets { present, missing })
    }

    /// Inserts the result of a lookup, unless it may have changed since the tickets were issued.
    pub(super) fn insert(
        &self,
        tickets: Tickets,
        digest: KeyDigest,
        found: Option<&Arc<CachedKey>>,
    ) {
        let tickets = if G::enforces(Guard::TicketForInsert) {
            tickets
        } else {
            self.tickets(&digest)
        };
        match found {
            Some(key) => self
                .present
                .insert(tickets.present, digest, key.clone(), key.weight()),
            None => self
                .missing
                .insert(tickets.missing, digest, self.boot.now(), 1),
        };
    }

    /// Evicts the keys that a change concerns.
    pub(super) fn invalidate(&self, change: &Change) {
        match change {
            Change::Key(digest) => {
                self.present.evict(digest);
                self.missing.evict(digest);
            }
            Change::User(id) => self.present.evict_where(|key| key.user_id == *id),
        }
    }

    /// Evicts all entries of both caches.
    pub(super) fn invalidate_all(&self) {
        self.present.clear();
        self.missing.clear();
    }

    /// Issues tickets now, as if nothing had been invalidated since the lookup began.
    fn tickets(&self, digest: &KeyDigest) -> Tickets {
        Tickets {
            present: self.present.ticket(digest),
            missing: self.missing.ticket(digest),
        }
    }
}
