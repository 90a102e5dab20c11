//! What an instance has in hand of a rate limit that all share, and what it knows of the rest.

use std::time::Duration;

use crate::domain::{boot_clock::Tick, limit::RateLimit};
use crate::verification::limits::{bucket::Bucket, prefetch_size::PrefetchSize};

/// How long who only looks goes by what was reported_at of the bucket last.
const REPORT_VALID_FOR: Duration = Duration::from_secs(1);

/// What there is to say of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStatus {
    pub limit: RateLimit,
    /// As many may be taken at once.
    pub remaining: u64,
    /// Until everything is there again; for who was refused, until it would not be.
    pub reset_seconds: u64,
}

/// How it stands with a bucket, for who was refused so many tokens.
pub(super) fn status(limit: RateLimit, bucket: &Bucket, refused: u64) -> RateStatus {
    let millis = match refused {
        0 => bucket.millis_until(bucket.limit().limit()),
        tokens => bucket.millis_until(tokens).max(1),
    };
    RateStatus {
        limit,
        remaining: bucket.left(),
        reset_seconds: millis.div_ceil(1000),
    }
}

pub(super) struct Prefetched {
    /// Units that were taken ahead, those whose allotment ends first.
    allotments: [Allotment; 2],
    /// The bucket as it was when it was last reported_at of, with what is in hand.
    pub bucket: Bucket,
    reported_at: Option<Tick>,
    /// Over which connection it was reported_at of.
    pub connection: u64,
    pub prefetch_size: PrefetchSize,
}

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

    /// Drops what is not good any more.
    pub(super) fn update(&mut self, limit: RateLimit, now: i64, tick: Tick) {
        for allotment in &mut self.allotments {
            // What was taken of a higher limit may be more than there is now.
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

    /// Takes tokens, of the allotment that ends first.
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

    /// Whether there may be so many. Others can only have taken since it was reported_at of the bucket: what did
    /// not fit then does not fit now.
    pub(super) fn may_have(&self, tokens: u64) -> bool {
        self.bucket.left() + self.tokens() >= tokens
    }

    /// Whether it is time to ask for the next tokens.
    pub(super) fn is_nearly_empty(&self) -> bool {
        self.allotments[1].tokens == 0 && self.prefetch_size.is_nearly_empty(self.tokens())
    }

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

    /// Notes what was reported_at of the bucket.
    pub(super) fn apply_report(&mut self, bucket: Bucket, connection: u64, now: Tick) {
        self.bucket = bucket;
        self.connection = connection;
        self.reported_at = Some(now);
    }

    pub(super) fn has_recent_report(&self, now: Tick) -> bool {
        self.reported_at
            .is_some_and(|reported_at| now.since(reported_at) < REPORT_VALID_FOR)
    }

    pub(super) fn status(&self, limit: RateLimit, refused: u64) -> RateStatus {
        let mut bucket = self.bucket;
        bucket.put_back(self.tokens());
        status(limit, &bucket, refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand() -> Prefetched {
        Prefetched::new(RateLimit::new(100, 60).expect("a limit"), 0, Tick(0))
    }

    fn allotment(tokens: u64, until: u64) -> Allotment {
        Allotment {
            tokens,
            until: Tick(until),
        }
    }

    #[test]
    fn what_ends_first_is_spent_first_and_what_has_ended_is_gone() {
        let mut hand = hand();
        let limit = hand.bucket.limit();
        hand.add(allotment(5, 10));
        hand.add(allotment(7, 20));
        assert!(hand.spend(6) && hand.tokens() == 6);
        hand.add(allotment(9, 30));
        assert!(!hand.spend(16) && hand.tokens() == 15);
        hand.update(limit, 0, Tick(20));
        assert_eq!(hand.tokens(), 9);
        hand.update(limit, 0, Tick(30));
        assert!(hand.tokens() == 0 && hand.spend(0) && !hand.spend(1));
    }

    #[test]
    fn nothing_is_left_in_hand_of_another_limit() {
        let mut hand = hand();
        hand.add(allotment(5, 10));
        hand.update(RateLimit::new(99, 60).expect("a limit"), 0, Tick(0));
        assert_eq!(hand.tokens(), 0);
    }
}
