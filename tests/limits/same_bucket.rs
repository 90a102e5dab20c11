//! In memory and in Redis the same history meets the same bucket.

use latchkey::{domain::limit::RateLimit, verification::limits::bucket::Bucket};
use proptest::prelude::*;

use crate::{
    any::{self, Amount, MOST, Pause},
    script::{Draw, check},
};

#[derive(Debug, Clone)]
enum Step {
    Wait(Pause),
    /// Somebody sets the clock, by milliseconds.
    SetClock(i64),
    Take(Amount),
    SetLimit(RateLimit),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::pause().prop_map(Step::Wait),
        1 => (-1_000_000..1_000_000_i64).prop_map(Step::SetClock),
        12 => any::amount().prop_map(Step::Take),
        1 => any::limit().prop_map(Step::SetLimit),
    ]
}

#[test]
fn in_memory_and_in_redis_the_same_is_taken_and_leaks() {
    let history = (
        any::limit(),
        0..2_000_000_000_000_i64,
        prop::collection::vec(step(), 1..80),
    );
    check(800, &history, |buckets, (mut limit, mut now, steps)| {
        let mut bucket = Bucket::empty(limit, now);
        for step in steps {
            match step {
                Step::Wait(pause) => now += pause.of(limit),
                Step::SetClock(by) => now += by,
                Step::SetLimit(other) => limit = other,
                Step::Take(amount) => {
                    let units = amount.of(limit).min(MOST);
                    bucket.set_limit(limit, now);
                    let taken = if bucket.take(units, now) { units } else { 0 };
                    let drawn = buckets.draw("bucket", Draw::exactly(units, limit), now);
                    let there = Bucket::new(limit, drawn.used, drawn.leaked, now);
                    prop_assert_eq!((drawn.taken, there), (taken, bucket));
                }
            }
        }
        Ok(())
    });
}
