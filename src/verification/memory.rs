//! What an instance remembers of keys, and until when it may trust that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    cache::{Bounds, Cache, Ticket, Use},
    guard::{Guard, holds},
    known_key::KnownKey,
};
use crate::{
    core::{
        boot_clock::{BootClock, Tick},
        config::CacheConfig,
        security::api_key::KeyDigest,
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
/// The bytes of memory for each key that may be remembered.
const BYTES_PER_KEY: usize = 512;

/// Keys, and digests that are no key's, apart: a flood of those pushes out none of the keys.
pub(super) struct Memory {
    known: Cache<KeyDigest, Arc<KnownKey>>,
    unknown: Cache<KeyDigest, Tick>,
    boot: BootClock,
    lease: Duration,
    trusted_until: AtomicU64,
}

/// What is remembered, and what that takes.
#[derive(Debug, Clone, Copy)]
pub struct MemoryUse {
    pub known: Use,
    /// Digests that are no key's.
    pub unknown: Use,
}

/// How it stands with the lease on what is remembered.
#[derive(Debug, Clone, Copy)]
pub struct LeaseStanding {
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
    known: Ticket,
    unknown: Ticket,
}

impl Memory {
    /// One that is not trusted yet; `None` if there is to be none.
    pub(super) fn new(config: &CacheConfig, boot: BootClock) -> Option<Self> {
        let entries = config.max_keys;
        (config.lease > Duration::ZERO).then(|| Self {
            known: Cache::new(Bounds {
                entries,
                // So that in a small one there is room for a large key.
                weight: entries.max(1000) * BYTES_PER_KEY,
            }),
            unknown: Cache::new(Bounds {
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
    pub(super) fn lease_standing(&self) -> LeaseStanding {
        let now = self.boot.now();
        let until = Tick(self.trusted_until.load(Ordering::Acquire));
        let left = until.since(now);
        let past = now.since(until);
        LeaseStanding {
            lease: self.lease,
            left,
            age: (until != Tick(0)).then(|| (self.lease + past).saturating_sub(left)),
        }
    }

    /// What it holds.
    pub(super) fn usage(&self) -> MemoryUse {
        MemoryUse {
            known: self.known.usage(),
            unknown: self.unknown.usage(),
        }
    }

    /// Trusts nothing any more.
    pub(super) fn distrust(&self) {
        self.trust_until(Tick(0));
    }

    /// The key, or that there is none, or the tickets to look it up with.
    pub(super) fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KnownKey>>, Tickets> {
        let now = self.boot.now();
        let known = match self.known.get(digest) {
            Ok(key) if key.age(now) < KNOWN_FOR => return Ok(Some(key)),
            Ok(_) => self.known.ticket(digest),
            Err(ticket) => ticket,
        };
        let unknown = match self.unknown.get(digest) {
            Ok(since) if now.since(since) < UNKNOWN_FOR => return Ok(None),
            Ok(_) => self.unknown.ticket(digest),
            Err(ticket) => ticket,
        };
        Err(Tickets { known, unknown })
    }

    /// Remembers what was looked up, unless it may have changed since.
    pub(super) fn remember(
        &self,
        tickets: Tickets,
        digest: KeyDigest,
        found: Option<&Arc<KnownKey>>,
    ) {
        #[cfg(test)]
        let tickets = match holds(Guard::FillTicket) {
            true => tickets,
            false => self.tickets(&digest),
        };
        match found {
            Some(key) => self
                .known
                .insert(tickets.known, digest, key.clone(), key.weight()),
            None => self
                .unknown
                .insert(tickets.unknown, digest, self.boot.now(), 1),
        };
    }

    /// Forgets what may have changed.
    pub(super) fn forget(&self, change: &Change) {
        match change {
            Change::Key(digest) => {
                self.known.evict(digest);
                self.unknown.evict(digest);
            }
            Change::User(id) => self.known.evict_where(|key| key.user_id == *id),
        }
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        self.known.clear();
        self.unknown.clear();
    }

    #[cfg(test)]
    fn tickets(&self, digest: &KeyDigest) -> Tickets {
        Tickets {
            known: self.known.ticket(digest),
            unknown: self.unknown.ticket(digest),
        }
    }
}
