//! The bucket in Redis equals the bucket in memory after the same history.

use latchkey::{domain::limit::RateLimit, verification::limits::bucket::Bucket};
use proptest::prelude::*;

use crate::{
    script::{Request, check},
    strategies::{self, Amount, MAX_LIMIT, Pause},
};

#[derive(Debug, Clone)]
enum Step {
    Wait(Pause),
    /// Sets the clock, by milliseconds.
    SetClock(i64),
    Take(Amount),
    SetLimit(RateLimit),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => strategies::pause().prop_map(Step::Wait),
        1 => (-1_000_000..1_000_000_i64).prop_map(Step::SetClock),
        12 => strategies::amount().prop_map(Step::Take),
        1 => strategies::limit().prop_map(Step::SetLimit),
    ]
}

#[test]
fn bucket_in_redis_equals_bucket_in_memory_after_any_history() {
    let history = (
        strategies::limit(),
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
                    let tokens = amount.of(limit).min(MAX_LIMIT);
                    bucket.set_limit(limit, now);
                    let taken = if bucket.take(tokens, now) { tokens } else { 0 };
                    let grant = buckets.take("bucket", Request::exactly(tokens, limit), now);
                    let in_redis = Bucket::new(limit, grant.used, grant.leaked, now);
                    prop_assert_eq!((grant.tokens, in_redis), (taken, bucket));
                }
            }
        }
        Ok(())
    });
}
