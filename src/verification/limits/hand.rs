//! What an instance has in hand of a rate limit that all share, and what it knows of the rest.

use std::time::Duration;

use super::{ahead::Pace, bucket::Bucket};
use crate::core::{boot_clock::Tick, limit::RateLimit};

/// How long who only looks goes by what was heard of the bucket last.
const HEARD_FOR: Duration = Duration::from_secs(1);

/// What there is to say of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStanding {
    pub limit: RateLimit,
    /// As many may be taken at once.
    pub remaining: u64,
    /// Until everything is there again; for who was refused, until it would not be.
    pub reset_seconds: u64,
}

/// How it stands with a bucket, for who was refused so many units.
pub(super) fn standing(limit: RateLimit, bucket: &Bucket, refused: u64) -> RateStanding {
    let millis = match refused {
        0 => bucket.millis_until(bucket.limit().limit()),
        units => bucket.millis_until(units).max(1),
    };
    RateStanding {
        limit,
        remaining: bucket.left(),
        reset_seconds: millis.div_ceil(1000),
    }
}

pub(super) struct Hand {
    /// Units that were taken ahead, those whose lease ends first.
    leases: [Lease; 2],
    /// The bucket as it was when it was last heard of, with what is in hand.
    pub bucket: Bucket,
    heard: Option<Tick>,
    /// Over which connection it was heard of.
    pub link: u64,
    pub pace: Pace,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub units: u64,
    pub until: Tick,
}

impl Hand {
    pub(super) fn new(limit: RateLimit, now: i64, tick: Tick) -> Self {
        Self {
            leases: [Lease {
                units: 0,
                until: tick,
            }; 2],
            bucket: Bucket::empty(limit, now),
            heard: None,
            link: 0,
            pace: Pace::new(tick),
        }
    }

    /// Drops what is not good any more.
    pub(super) fn update(&mut self, limit: RateLimit, now: i64, tick: Tick) {
        for lease in &mut self.leases {
            // What was taken of a higher limit may be more than there is now.
            if lease.until <= tick || self.bucket.limit() != limit {
                lease.units = 0;
            }
        }
        self.bucket.set_limit(limit, now);
        self.bucket.leak(now);
    }

    pub(super) fn units(&self) -> u64 {
        self.leases[0].units + self.leases[1].units
    }

    /// Takes units, of the lease that ends first.
    pub(super) fn spend(&mut self, units: u64) -> bool {
        if self.units() < units {
            return false;
        }
        let first = units.min(self.leases[0].units);
        self.leases[0].units -= first;
        self.leases[1].units -= units - first;
        self.pace.spend(units);
        true
    }

    /// Whether there may be so many. Others can only have taken since it was heard of the bucket: what did
    /// not fit then does not fit now.
    pub(super) fn may_have(&self, units: u64) -> bool {
        self.bucket.left() + self.units() >= units
    }

    /// Whether it is time to ask for the next units.
    pub(super) fn is_nearly_out(&self) -> bool {
        self.leases[1].units == 0 && self.pace.is_nearly_out(self.units())
    }

    pub(super) fn add(&mut self, lease: Lease) {
        if self.leases[0].units == 0 {
            self.leases.swap(0, 1);
        }
        if self.leases[0].units == 0 {
            self.leases[0] = lease;
        } else if self.leases[1].units == 0 {
            self.leases[1] = lease;
        } else {
            self.leases[1].units += lease.units;
        }
    }

    /// Notes what was heard of the bucket.
    pub(super) fn hear(&mut self, bucket: Bucket, link: u64, now: Tick) {
        self.bucket = bucket;
        self.link = link;
        self.heard = Some(now);
    }

    pub(super) fn has_heard(&self, now: Tick) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < HEARD_FOR)
    }

    pub(super) fn standing(&self, limit: RateLimit, refused: u64) -> RateStanding {
        let mut bucket = self.bucket;
        bucket.put_back(self.units());
        standing(limit, &bucket, refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand() -> Hand {
        Hand::new(RateLimit::new(100, 60).expect("a limit"), 0, Tick(0))
    }

    fn lease(units: u64, until: u64) -> Lease {
        Lease {
            units,
            until: Tick(until),
        }
    }

    #[test]
    fn what_ends_first_is_spent_first_and_what_has_ended_is_gone() {
        let mut hand = hand();
        let limit = hand.bucket.limit();
        hand.add(lease(5, 10));
        hand.add(lease(7, 20));
        assert!(hand.spend(6) && hand.units() == 6);
        hand.add(lease(9, 30));
        assert!(!hand.spend(16) && hand.units() == 15);
        hand.update(limit, 0, Tick(20));
        assert_eq!(hand.units(), 9);
        hand.update(limit, 0, Tick(30));
        assert!(hand.units() == 0 && hand.spend(0) && !hand.spend(1));
    }

    #[test]
    fn nothing_is_left_in_hand_of_another_limit() {
        let mut hand = hand();
        hand.add(lease(5, 10));
        hand.update(RateLimit::new(99, 60).expect("a limit"), 0, Tick(0));
        assert_eq!(hand.units(), 0);
    }
}
