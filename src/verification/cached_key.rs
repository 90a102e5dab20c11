//! A key as requests find it: what is known of it, and when it was last used.

use std::{
    fmt,
    ops::Deref,
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::{limits::Counters, usage::Tally};
use crate::{
    domain::{boot_clock::Tick, clock::UtcTime},
    models::key_facts::KeyFacts,
};

/// Not used since that was last written.
const NOT_USED: i64 = i64::MIN;

/// What is known of a key. Requests share it.
pub struct CachedKey {
    facts: KeyFacts,
    /// When it was found in the database.
    found: Tick,
    /// When it was last used, until that is written.
    last_used: AtomicI64,
    /// How it was used, until that is collected.
    tally: Tally,
    /// What is counted of its limits, if it has any.
    counters: OnceLock<Option<Box<Counters>>>,
}

impl CachedKey {
    pub(super) fn new(facts: KeyFacts, found: Tick) -> Self {
        Self {
            facts,
            found,
            last_used: AtomicI64::new(NOT_USED),
            tally: Tally::default(),
            counters: OnceLock::new(),
        }
    }

    pub(super) fn age(&self, now: Tick) -> Duration {
        now.since(self.found)
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Notes a use; whether it is the first since the last was taken.
    pub(super) fn note_use(&self, at: UtcTime) -> bool {
        self.last_used.fetch_max(at.0, Ordering::Relaxed) == NOT_USED
    }

    /// The last use since it was last taken.
    pub(super) fn take_use(&self) -> Option<UtcTime> {
        let at = self.last_used.swap(NOT_USED, Ordering::Relaxed);
        (at != NOT_USED).then_some(UtcTime(at))
    }

    /// What is counted of its limits, found when it is first asked for.
    pub(super) fn counters(&self, find: impl FnOnce() -> Option<Counters>) -> Option<&Counters> {
        self.counters
            .get_or_init(|| find().map(Box::new))
            .as_deref()
    }

    /// The bytes that it takes in key_cache.
    pub(super) fn weight(&self) -> usize {
        // An `Arc` counts its holders in two words.
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
