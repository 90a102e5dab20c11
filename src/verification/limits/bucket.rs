//! The arithmetic of rate limits: the Generic Cell Rate Algorithm in the form of its continuous-state leaky
//! bucket (ITU-T I.371, annex A.1), in integers and so exact.
//!
//! What is taken is poured into a bucket that holds `limit` units, and leaks `limit` units in a window,
//! evenly. What does not fit is refused. `take.lua` does the same in Redis, and no number in either is
//! beyond 2^53, up to which Lua's are exact: times are milliseconds, so a window is at most 86,400,000 of
//! them, and its square is less than that.

use crate::domain::limit::RateLimit;

/// Units that were taken and have not leaked out yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    limit: RateLimit,
    used: u64,
    /// What has leaked of the next unit, in parts of which a window's milliseconds make one.
    leaked: u64,
    /// When that was so, in milliseconds.
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

    /// Takes units, all of them or none. Time that goes back stands still.
    pub fn take(&mut self, units: u64, now: i64) -> bool {
        self.leak(now);
        let fits = self.left() >= units;
        if fits {
            self.used += units;
        }
        fits
    }

    /// As it would be without these units, which are in it since a moment ago.
    pub fn put_back(&mut self, units: u64) {
        self.used = self.used.saturating_sub(units);
        if self.used == 0 {
            self.leaked = 0;
        }
    }

    /// Lets out what has leaked by now.
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

    /// From now on another limit counts. What was used stays used.
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

    /// Units that may be taken at once.
    pub fn left(&self) -> u64 {
        self.limit.limit() - self.used
    }

    /// How long it takes until so many may be taken, in milliseconds. For what never fits, a window.
    pub fn millis_until(&self, units: u64) -> u64 {
        let limit = self.limit.limit();
        if units > limit {
            return self.window_millis();
        }
        let too_many = (self.used + units).saturating_sub(limit);
        if too_many == 0 {
            return 0;
        }
        let parts =
            u128::from(too_many) * u128::from(self.window_millis()) - u128::from(self.leaked);
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
    fn units_come_back_one_by_one() {
        let limit = RateLimit::new(3, 60).unwrap();
        let mut bucket = Bucket::empty(limit, 0);
        assert!(bucket.take(2, 0) && bucket.take(1, 0) && !bucket.take(1, 0));
        assert_eq!(bucket.millis_until(1), 20_000);
        assert_eq!(bucket.millis_until(3), 60_000);
        assert!(!bucket.take(1, 19_999));
        assert!(bucket.take(1, 20_000) && !bucket.take(1, 39_999));
        // Time that goes back neither gives nor takes.
        assert!(!bucket.take(1, -1_000_000));
        assert_eq!((bucket.left(), bucket.millis_until(1)), (0, 1));
        assert!(bucket.take(1, -999_999));
    }

    proptest! {
        /// Of a history of units at times.
        #[test]
        fn no_stretch_of_time_has_more_than_a_burst_and_what_comes_back_in_it(
            limit in any_limit(),
            steps in prop::collection::vec((0_i64..200_000, 0_u64..=1 << 53), 1..60),
        ) {
            let mut bucket = Bucket::empty(limit, 0);
            let (mut now, mut taken) = (0, Vec::new());
            for (pause, units) in steps {
                now += pause;
                let units = units % (limit.limit() + 2);
                if bucket.take(units, now) {
                    taken.push((now, u128::from(units)));
                } else {
                    // It says exactly how long it takes.
                    let wait = bucket.millis_until(units);
                    prop_assert!(wait > 0);
                    if units <= limit.limit() {
                        let mut later = bucket;
                        prop_assert!(!later.clone().take(units, now + wait as i64 - 1));
                        prop_assert!(later.take(units, now + wait as i64));
                    }
                }
            }
            let window = u128::from(limit.window_seconds()) * 1000;
            let most = u128::from(limit.limit());
            for (first, (start, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (end, units) in &taken[first..] {
                    sum += units;
                    prop_assert!(sum * window <= most * window + most * (end - start) as u128);
                }
            }
        }

        #[test]
        fn another_limit_keeps_what_was_used(before in any_limit(), after in any_limit(), used in 0_u64..100) {
            let mut bucket = Bucket::empty(before, 0);
            let used = used.min(before.limit());
            bucket.take(used, 0);
            bucket.set_limit(after, 0);
            prop_assert_eq!(bucket.used(), used.min(after.limit()));
        }
    }
}
