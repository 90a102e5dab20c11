//! A key as requests find it: what is known of it, and when it was last used.

use std::{
    ops::Deref,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::{
    core::{boot_clock::Tick, clock::UtcTime},
    models::key_facts::KeyFacts,
};

/// Not used since that was last written.
const NOT_USED: i64 = i64::MIN;

/// What is known of a key. Requests share it.
#[derive(Debug)]
pub struct KnownKey {
    facts: KeyFacts,
    /// When it was found in the database.
    found: Tick,
    /// When it was last used, until that is written.
    last_used: AtomicI64,
}

impl KnownKey {
    pub(super) fn new(facts: KeyFacts, found: Tick) -> Self {
        Self {
            facts,
            found,
            last_used: AtomicI64::new(NOT_USED),
        }
    }

    pub(super) fn age(&self, now: Tick) -> Duration {
        now.since(self.found)
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

    /// The bytes that it takes in memory.
    pub(super) fn weight(&self) -> usize {
        // An `Arc` counts its holders in two words.
        size_of::<Self>() + 2 * size_of::<usize>() + self.facts.heap_bytes()
    }
}

impl Deref for KnownKey {
    type Target = KeyFacts;

    fn deref(&self) -> &KeyFacts {
        &self.facts
    }
}
