//! Prefetched tokens of a shared rate limit, and the last reported state of its bucket.

use std::time::Duration;

use super::{bucket::Bucket, prefetch_size::PrefetchSize};
use crate::domain::{boot_clock::Tick, limit::RateLimit};

/// Time for which a status request is served from the last report of the bucket.
const REPORT_VALID_FOR: Duration = Duration::from_secs(1);

/// Status of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStatus {
    pub limit: RateLimit,
    /// Number of tokens that may be taken at once.
    pub remaining: u64,
    /// Seconds until the whole limit is available. After a rejection, seconds until the request would be allowed.
    pub reset_seconds: u64,
}

/// Returns the status of a bucket. `rejected` is the number of tokens that were just denied, 0 if none were.
pub(super) fn status(limit: RateLimit, bucket: &Bucket, rejected: u64) -> RateStatus {
    let millis = match rejected {
        0 => bucket.millis_until(bucket.limit().limit()),
        tokens => bucket.millis_until(tokens).max(1),
    };
    RateStatus {
        limit,
        remaining: bucket.left(),
        reset_seconds: millis.div_ceil(1000),
    }
}

/// Prefetched tokens of one rate limit, and the last report of its bucket.
pub(super) struct Prefetched {
    /// Ordered by expiry.
    allotments: [Allotment; 2],
    /// The bucket as last reported, prefetched tokens included.
    pub bucket: Bucket,
    reported_at: Option<Tick>,
    /// Number of the connection that the report came from.
    pub connection: u64,
    pub prefetch_size: PrefetchSize,
}

/// Prefetched tokens that expire together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allotment {
    pub tokens: u64,
    pub until: Tick,
}

impl Prefetched {
    pub(super) fn new(limit: RateLimit, now: i64, tick: Tick) -> Self {
        Self {
            allotments: [Allotment {
                tokens: 0,
                until: tick,
            }; 2],
            bucket: Bucket::empty(limit, now),
            reported_at: None,
            connection: 0,
            prefetch_size: PrefetchSize::new(tick),
        }
    }

    /// Drops expired allotments, and lets the bucket leak. Drops all allotments if the limit has changed.
    pub(super) fn update(&mut self, limit: RateLimit, now: i64, tick: Tick) {
        for allotment in &mut self.allotments {
            // Tokens taken under a higher limit may exceed the new one.
            if allotment.until <= tick || self.bucket.limit() != limit {
                allotment.tokens = 0;
            }
        }
        self.bucket.set_limit(limit, now);
        self.bucket.leak(now);
    }

    pub(super) fn tokens(&self) -> u64 {
        self.allotments[0].tokens + self.allotments[1].tokens
    }

    /// Spends prefetched tokens, first those that expire first. Returns false if there are too few.
    pub(super) fn spend(&mut self, tokens: u64) -> bool {
        if self.tokens() < tokens {
            return false;
        }
        let first = tokens.min(self.allotments[0].tokens);
        self.allotments[0].tokens -= first;
        self.allotments[1].tokens -= tokens - first;
        self.prefetch_size.spend(tokens);
        true
    }

    /// Returns whether so many tokens may be available. Other instances can only have taken tokens since the last
    /// report: a request that did not fit then does not fit now.
    pub(super) fn may_have(&self, tokens: u64) -> bool {
        self.bucket.left() + self.tokens() >= tokens
    }

    /// Returns whether it is time to prefetch the next tokens.
    pub(super) fn is_nearly_empty(&self) -> bool {
        self.allotments[1].tokens == 0 && self.prefetch_size.is_nearly_empty(self.tokens())
    }

    /// Adds an allotment. If there are two already, its tokens expire with the later of them.
    pub(super) fn add(&mut self, allotment: Allotment) {
        if self.allotments[0].tokens == 0 {
            self.allotments.swap(0, 1);
        }
        if self.allotments[0].tokens == 0 {
            self.allotments[0] = allotment;
        } else if self.allotments[1].tokens == 0 {
            self.allotments[1] = allotment;
        } else {
            self.allotments[1].tokens += allotment.tokens;
        }
    }

    /// Stores a report of the bucket.
    pub(super) fn apply_report(&mut self, bucket: Bucket, connection: u64, now: Tick) {
        self.bucket = bucket;
        self.connection = connection;
        self.reported_at = Some(now);
    }

    pub(super) fn has_recent_report(&self, now: Tick) -> bool {
        self.reported_at
            .is_some_and(|reported_at| now.since(reported_at) < REPORT_VALID_FOR)
    }

    pub(super) fn status(&self, limit: RateLimit, rejected: u64) -> RateStatus {
        let mut bucket = self.bucket;
        bucket.put_back(self.tokens());
        status(limit, &bucket, rejected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefetched() -> Prefetched {
        Prefetched::new(RateLimit::new(100, 60).expect("a limit"), 0, Tick(0))
    }

    fn allotment(tokens: u64, until: u64) -> Allotment {
        Allotment {
            tokens,
            until: Tick(until),
        }
    }

    #[test]
    fn allotment_that_expires_first_is_spent_first() {
        let mut prefetched = prefetched();
        let limit = prefetched.bucket.limit();
        prefetched.add(allotment(5, 10));
        prefetched.add(allotment(7, 20));
        assert!(prefetched.spend(6) && prefetched.tokens() == 6);
        prefetched.add(allotment(9, 30));
        assert!(!prefetched.spend(16) && prefetched.tokens() == 15);
        prefetched.update(limit, 0, Tick(20));
        assert_eq!(prefetched.tokens(), 9);
        prefetched.update(limit, 0, Tick(30));
        assert!(prefetched.tokens() == 0 && prefetched.spend(0) && !prefetched.spend(1));
    }

    #[test]
    fn changed_limit_drops_all_allotments() {
        let mut prefetched = prefetched();
        prefetched.add(allotment(5, 10));
        prefetched.update(RateLimit::new(99, 60).expect("a limit"), 0, Tick(0));
        assert_eq!(prefetched.tokens(), 0);
    }
}
