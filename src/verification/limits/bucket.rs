//! Arithmetic of rate limits: the Generic Cell Rate Algorithm in the form of its continuous-state leaky bucket
//! (ITU-T I.371, annex A.1), in integers and therefore exact.
//!
//! Taken tokens are poured into a bucket that holds `limit` tokens and leaks `limit` tokens per window, evenly.
//! Tokens that do not fit are denied. `redis/take.lua` does the same in Redis. No number in either exceeds 2^53, up
//! to which numbers in Lua are exact: times are milliseconds, so a window is at most 86,400,000, and its square is
//! less than 2^53.

use crate::domain::limit::RateLimit;

/// Leaky bucket of one rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    limit: RateLimit,
    /// Tokens that were taken and have not leaked out yet.
    used: u64,
    /// Leaked part of the next token, in fractions whose denominator is the window in milliseconds.
    leaked: u64,
    /// Time at which `used` and `leaked` were right, in milliseconds.
    at: i64,
}

impl Bucket {
    pub fn empty(limit: RateLimit, now: i64) -> Self {
        Self::new(limit, 0, 0, now)
    }

    pub fn new(limit: RateLimit, used: u64, leaked: u64, now: i64) -> Self {
        Self {
            limit,
            used,
            leaked,
            at: now,
        }
    }

    /// Takes tokens, all of them or none. If the clock was set back, nothing leaks.
    pub fn take(&mut self, tokens: u64, now: i64) -> bool {
        self.leak(now);
        let fits = self.left() >= tokens;
        if fits {
            self.used += tokens;
        }
        fits
    }

    /// Removes tokens that were taken a moment ago.
    pub fn put_back(&mut self, tokens: u64) {
        self.used = self.used.saturating_sub(tokens);
        if self.used == 0 {
            self.leaked = 0;
        }
    }

    /// Removes the tokens that have leaked by `now`.
    pub fn leak(&mut self, now: i64) {
        let elapsed = u64::try_from(now.saturating_sub(self.at)).unwrap_or(0);
        self.at = now;
        let window = self.window_millis();
        if elapsed >= window {
            (self.used, self.leaked) = (0, 0);
            return;
        }
        let limit = self.limit.limit();
        let parts = limit % window * elapsed + self.leaked;
        let whole = limit / window * elapsed + parts / window;
        match self.used.checked_sub(whole).filter(|used| *used > 0) {
            Some(used) => (self.used, self.leaked) = (used, parts % window),
            None => (self.used, self.leaked) = (0, 0),
        }
    }

    /// Changes the limit. Used tokens stay used, up to the new limit.
    pub fn set_limit(&mut self, limit: RateLimit, now: i64) {
        if self.limit != limit {
            self.leak(now);
            self.used = self.used.min(limit.limit());
            if self.limit.window_seconds() != limit.window_seconds() {
                self.leaked = 0;
            }
            self.limit = limit;
        }
    }

    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    /// Returns the number of tokens that may be taken at once.
    pub fn left(&self) -> u64 {
        self.limit.limit() - self.used
    }

    /// Returns the time until so many tokens may be taken, in milliseconds. For more tokens than the limit, returns
    /// the window.
    pub fn millis_until(&self, tokens: u64) -> u64 {
        let limit = self.limit.limit();
        if tokens > limit {
            return self.window_millis();
        }
        let excess = (self.used + tokens).saturating_sub(limit);
        if excess == 0 {
            return 0;
        }
        let parts = u128::from(excess) * u128::from(self.window_millis()) - u128::from(self.leaked);
        u64::try_from(parts.div_ceil(limit.into())).unwrap_or(u64::MAX)
    }

    fn window_millis(&self) -> u64 {
        u64::from(self.limit.window_seconds()) * 1000
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_limit() -> impl Strategy<Value = RateLimit> {
        let limit = prop_oneof![1_u64..10, 1_u64..10_000, 1..=1_u64 << 53];
        let window = prop_oneof![1_u32..3, 1_u32..=86_400];
        (limit, window).prop_map(|(limit, window)| RateLimit::new(limit, window).unwrap())
    }

    #[test]
    fn tokens_return_one_by_one() {
        let limit = RateLimit::new(3, 60).unwrap();
        let mut bucket = Bucket::empty(limit, 0);
        assert!(bucket.take(2, 0) && bucket.take(1, 0) && !bucket.take(1, 0));
        assert_eq!(bucket.millis_until(1), 20_000);
        assert_eq!(bucket.millis_until(3), 60_000);
        assert!(!bucket.take(1, 19_999));
        assert!(bucket.take(1, 20_000) && !bucket.take(1, 39_999));
        // A clock that is set back neither gives nor takes tokens.
        assert!(!bucket.take(1, -1_000_000));
        assert_eq!((bucket.left(), bucket.millis_until(1)), (0, 1));
        assert!(bucket.take(1, -999_999));
    }

    proptest! {
        /// Runs a random history of requests.
        #[test]
        fn every_interval_allows_at_most_a_burst_and_the_tokens_that_leak_in_it(
            limit in any_limit(),
            steps in prop::collection::vec((0_i64..200_000, 0_u64..=1 << 53), 1..60),
        ) {
            let mut bucket = Bucket::empty(limit, 0);
            let (mut now, mut taken) = (0, Vec::new());
            for (pause, tokens) in steps {
                now += pause;
                let tokens = tokens % (limit.limit() + 2);
                if bucket.take(tokens, now) {
                    taken.push((now, u128::from(tokens)));
                } else {
                    // The reported wait is exact.
                    let wait = bucket.millis_until(tokens);
                    prop_assert!(wait > 0);
                    if tokens <= limit.limit() {
                        let mut later = bucket;
                        prop_assert!(!later.clone().take(tokens, now + wait as i64 - 1));
                        prop_assert!(later.take(tokens, now + wait as i64));
                    }
                }
            }
            let window = u128::from(limit.window_seconds()) * 1000;
            let most = u128::from(limit.limit());
            for (first, (start, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (end, tokens) in &taken[first..] {
                    sum += tokens;
                    prop_assert!(sum * window <= most * window + most * (end - start) as u128);
                }
            }
        }

        #[test]
        fn changed_limit_keeps_used_tokens(before in any_limit(), after in any_limit(), used in 0_u64..100) {
            let mut bucket = Bucket::empty(before, 0);
            let used = used.min(before.limit());
            bucket.take(used, 0);
            bucket.set_limit(after, 0);
            prop_assert_eq!(bucket.used(), used.min(after.limit()));
        }
    }
}
