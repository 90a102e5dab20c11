//! How many tokens to take ahead of their use: as many as will be used soon.

use std::time::Duration;

use crate::domain::boot_clock::Tick;

/// What was used since tokens were last asked for, and how many were asked for ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrefetchSize {
    asked: Tick,
    spent: u64,
    ahead: u64,
}

impl PrefetchSize {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            asked: now,
            spent: 0,
            ahead: 0,
        }
    }

    pub(super) fn spend(&mut self, tokens: u64) {
        self.spent = self.spent.saturating_add(tokens);
    }

    /// Notes what came of it: who got less must not ask again and again, until all is in one hand.
    pub(super) fn granted(&mut self, ahead: u64) {
        self.ahead = self.ahead.min(ahead);
    }

    /// Whether what is left in hand will soon be used up.
    pub(super) fn is_nearly_empty(&self, left: u64) -> bool {
        left < self.ahead.div_ceil(2)
    }

    /// As many as were used in such a time lately, and no more than twice as many as the last time: a
    /// burst is no prefetch_size.
    pub(super) fn next(&mut self, now: Tick, time: Duration) -> u64 {
        let elapsed = now.since(self.asked).as_micros().max(1);
        let used = u128::from(self.spent) * time.as_micros() / elapsed;
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        *self = Self {
            ahead: used.min(self.ahead.saturating_mul(2).max(1)),
            ..Self::new(now)
        };
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_ahead_follows_the_pace() {
        let millis = Duration::from_millis;
        let mut now = Tick(0);
        let mut prefetch_size = PrefetchSize::new(now);
        let mut after = |pause: u64, spent: u64| {
            now = now.after(millis(pause));
            prefetch_size.spend(spent);
            prefetch_size.next(now, millis(500))
        };
        // One in a minute is no prefetch_size.
        assert_eq!([after(0, 0), after(60_000, 1)], [0, 0]);
        // A hundred in a millisecond may be a burst.
        assert_eq!([after(1, 100), after(1, 100), after(1, 100)], [1, 2, 4]);
        // Ten in a second are five in half of one.
        assert_eq!(
            [after(1000, 10), after(1000, 10), after(60_000, 10)],
            [5, 5, 0]
        );
    }

    #[test]
    fn who_gets_less_than_was_asked_for_asks_again_when_that_is_used() {
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
