//! What an instance remembers of keys, and until when it may trust that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::verification::{
    cache::{Bounds, Cache, Ticket, Use},
    cached_key::CachedKey,
    guard::{Guard, holds},
};
use crate::{
    config::CacheConfig,
    domain::{
        api_key::KeyDigest,
        boot_clock::{BootClock, Tick},
    },
    models::key_change::Change,
};

/// How long a key is remembered. Whatever changes one says so; this is for what is changed behind the
/// service's back, by hand.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// How long it is remembered that there is no such key.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// How many of those are remembered: some 10 MB.
const MAX_UNKNOWN: usize = 100_000;
/// The bytes of key_cache for each key that may be remembered.
const BYTES_PER_KEY: usize = 512;

/// Keys, and digests that are no key's, apart: a flood of those pushes out none of the keys.
pub(super) struct KeyCache {
    present: Cache<KeyDigest, Arc<CachedKey>>,
    missing: Cache<KeyDigest, Tick>,
    boot: BootClock,
    lease: Duration,
    trusted_until: AtomicU64,
}

/// What is remembered, and what that takes.
#[derive(Debug, Clone, Copy)]
pub struct KeyCacheUse {
    pub present: Use,
    /// Digests that are no key's.
    pub missing: Use,
}

/// How it stands with the lease on what is remembered.
#[derive(Debug, Clone, Copy)]
pub struct LeaseStatus {
    /// How long it lasts in all.
    pub lease: Duration,
    /// How much of it is left; zero without one.
    pub left: Duration,
    /// How long ago the renewal was asked for that it goes by; `None` before the first, and once it was
    /// given up.
    pub age: Option<Duration>,
}

/// What may be remembered of a digest that is being looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tickets {
    present: Ticket,
    missing: Ticket,
}

impl KeyCache {
    /// One that is not trusted yet; `None` if there is to be none.
    pub(super) fn new(config: &CacheConfig, boot: BootClock) -> Option<Self> {
        let entries = config.max_keys;
        (config.lease > Duration::ZERO).then(|| Self {
            present: Cache::new(Bounds {
                entries,
                // So that in a small one there is room for a large key.
                weight: entries.max(1000) * BYTES_PER_KEY,
            }),
            missing: Cache::new(Bounds {
                entries: MAX_UNKNOWN,
                weight: MAX_UNKNOWN,
            }),
            boot,
            lease: config.lease,
            trusted_until: AtomicU64::new(0),
        })
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether what is found from now on may be answered.
    pub(super) fn is_trusted(&self) -> bool {
        let now = self.boot.now();
        // Who sees the new end of a lease also sees what was forgotten before.
        now.0 < self.trusted_until.load(Ordering::Acquire) || !holds(Guard::LeaseEnds)
    }

    pub(super) fn trust_until(&self, end: Tick) {
        self.trusted_until.store(end.0, Ordering::Release);
    }

    /// How it stands with the lease.
    pub(super) fn lease_status(&self) -> LeaseStatus {
        let now = self.boot.now();
        let until = Tick(self.trusted_until.load(Ordering::Acquire));
        let left = until.since(now);
        let past = now.since(until);
        LeaseStatus {
            lease: self.lease,
            left,
            age: (until != Tick(0)).then(|| (self.lease + past).saturating_sub(left)),
        }
    }

    /// What it holds.
    pub(super) fn usage(&self) -> KeyCacheUse {
        KeyCacheUse {
            present: self.present.usage(),
            missing: self.missing.usage(),
        }
    }

    /// Trusts nothing any more.
    pub(super) fn distrust(&self) {
        self.trust_until(Tick(0));
    }

    /// The key, or that there is none, or the tickets to look it up with.
    pub(super) fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<CachedKey>>, Tickets> {
        let now = self.boot.now();
        let present = match self.present.get(digest) {
            Ok(key) if key.age(now) < KNOWN_FOR => return Ok(Some(key)),
            Ok(_) => self.present.ticket(digest),
            Err(ticket) => ticket,
        };
        let missing = match self.missing.get(digest) {
            Ok(since) if now.since(since) < UNKNOWN_FOR => return Ok(None),
            Ok(_) => self.missing.ticket(digest),
            Err(ticket) => ticket,
        };
        Err(Tickets { present, missing })
    }

    /// Remembers what was looked up, unless it may have changed since.
    pub(super) fn insert(
        &self,
        tickets: Tickets,
        digest: KeyDigest,
        found: Option<&Arc<CachedKey>>,
    ) {
        #[cfg(test)]
        let tickets = match holds(Guard::FillTicket) {
            true => tickets,
            false => self.tickets(&digest),
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

    /// Forgets what may have changed.
    pub(super) fn invalidate(&self, change: &Change) {
        match change {
            Change::Key(digest) => {
                self.present.evict(digest);
                self.missing.evict(digest);
            }
            Change::User(id) => self.present.evict_where(|key| key.user_id == *id),
        }
    }

    /// Forgets everything.
    pub(super) fn invalidate_all(&self) {
        self.present.clear();
        self.missing.clear();
    }

    #[cfg(test)]
    fn tickets(&self, digest: &KeyDigest) -> Tickets {
        Tickets {
            present: self.present.ticket(digest),
            missing: self.missing.ticket(digest),
        }
    }
}
