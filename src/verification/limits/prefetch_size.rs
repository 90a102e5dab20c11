//! Chooses how many tokens or units to prefetch: as many as will be used soon.

use std::time::Duration;

use crate::domain::boot_clock::Tick;

/// Recent use of a counter, and the size of its last prefetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrefetchSize {
    requested_at: Tick,
    spent: u64,
    prefetched: u64,
}

impl PrefetchSize {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            requested_at: now,
            spent: 0,
            prefetched: 0,
        }
    }

    pub(super) fn spend(&mut self, tokens: u64) {
        self.spent = self.spent.saturating_add(tokens);
    }

    /// Records how many tokens were actually prefetched. Without it, an instance that got fewer than it requested would
    /// request again and again, until it held everything that is left.
    pub(super) fn granted(&mut self, prefetched: u64) {
        self.prefetched = self.prefetched.min(prefetched);
    }

    /// Returns whether less than half of the last prefetch is left.
    pub(super) fn is_nearly_empty(&self, left: u64) -> bool {
        left < self.prefetched.div_ceil(2)
    }

    /// Returns the size of the next prefetch: as many tokens as were recently used in `time`, and at most twice the
    /// last prefetch, since a burst says little about future use.
    pub(super) fn next(&mut self, now: Tick, time: Duration) -> u64 {
        let elapsed = now.since(self.requested_at).as_micros().max(1);
        let used = u128::from(self.spent) * time.as_micros() / elapsed;
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        *self = Self {
            prefetched: used.min(self.prefetched.saturating_mul(2).max(1)),
            ..Self::new(now)
        };
        self.prefetched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_size_follows_recent_use() {
        let millis = Duration::from_millis;
        let mut now = Tick(0);
        let mut prefetch_size = PrefetchSize::new(now);
        let mut after = |pause: u64, spent: u64| {
            now = now.after(millis(pause));
            prefetch_size.spend(spent);
            prefetch_size.next(now, millis(500))
        };
        // One token per minute needs no prefetch.
        assert_eq!([after(0, 0), after(60_000, 1)], [0, 0]);
        // A hundred tokens in a millisecond may be a burst.
        assert_eq!([after(1, 100), after(1, 100), after(1, 100)], [1, 2, 4]);
        // Ten tokens per second are five per half second.
        assert_eq!(
            [after(1000, 10), after(1000, 10), after(60_000, 10)],
            [5, 5, 0]
        );
    }

    #[test]
    fn smaller_grant_delays_the_next_request_until_half_of_it_is_used() {
        let mut prefetch_size = PrefetchSize::new(Tick(0));
        for _ in 0..10 {
            prefetch_size.spend(1000);
            prefetch_size.next(Tick(1), Duration::from_millis(500));
        }
        assert!(prefetch_size.is_nearly_empty(255) && !prefetch_size.is_nearly_empty(256));
        prefetch_size.granted(10);
        assert!(prefetch_size.is_nearly_empty(4) && !prefetch_size.is_nearly_empty(5));
    }
}
