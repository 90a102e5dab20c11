//! Cached key: its data from the database, its usage counters and the time of its last use.

use std::{
    fmt,
    ops::Deref,
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::{limits::Counters, usage::UsageCounters};
use crate::{
    domain::{boot_clock::Tick, clock::UtcTime},
    models::key_facts::KeyFacts,
};

/// Value of `last_used` if no use waits to be written.
const NOT_USED: i64 = i64::MIN;

/// Key in the cache. All requests with the key share it.
pub struct CachedKey {
    facts: KeyFacts,
    /// Start of the database query that read the key.
    loaded: Tick,
    /// Time of the last use that is not yet written, in microseconds, or [`NOT_USED`].
    last_used: AtomicI64,
    /// Counts of checks that are not yet collected.
    usage: UsageCounters,
    /// Counters of the key's limits. `None` if the key has no limits.
    counters: OnceLock<Option<Box<Counters>>>,
}

impl CachedKey {
    /// Creates a key from data that a query started at `loaded` has read.
    pub(super) fn new(facts: KeyFacts, loaded: Tick) -> Self {
        Self {
            facts,
            loaded,
            last_used: AtomicI64::new(NOT_USED),
            usage: UsageCounters::default(),
            counters: OnceLock::new(),
        }
    }

    pub(super) fn age(&self, now: Tick) -> Duration {
        now.since(self.loaded)
    }

    pub(super) fn usage(&self) -> &UsageCounters {
        &self.usage
    }

    /// Records a use. Returns true if it is the first since [`CachedKey::take_last_used`] was called.
    pub(super) fn record_use(&self, at: UtcTime) -> bool {
        self.last_used.fetch_max(at.0, Ordering::Relaxed) == NOT_USED
    }

    /// Returns the last recorded use and resets it. `None` if there was none.
    pub(super) fn take_last_used(&self) -> Option<UtcTime> {
        let at = self.last_used.swap(NOT_USED, Ordering::Relaxed);
        (at != NOT_USED).then_some(UtcTime(at))
    }

    /// Returns the counters of the key's limits. The first call determines them with `find`.
    pub(super) fn counters(&self, find: impl FnOnce() -> Option<Counters>) -> Option<&Counters> {
        self.counters
            .get_or_init(|| find().map(Box::new))
            .as_deref()
    }

    /// Returns the memory of this key in the cache, in bytes.
    pub(super) fn weight(&self) -> usize {
        // An `Arc` has two counters of one word each.
        size_of::<Self>() + 2 * size_of::<usize>() + self.facts.heap_bytes()
    }
}

impl Deref for CachedKey {
    type Target = KeyFacts;

    fn deref(&self) -> &KeyFacts {
        &self.facts
    }
}

impl fmt::Debug for CachedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.fmt(f)
    }
}
