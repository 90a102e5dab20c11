//! Prefetched tokens of all instances together never exceed what one bucket would allow.

use latchkey::{domain::limit::RateLimit, verification::limits::bucket::Bucket};
use proptest::prelude::*;

use crate::{
    script::{Buckets, Request, check, lifetime_of},
    strategies::{self, Amount, MAX_LIMIT, Pause},
};

const INSTANCES: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Wait(Pause),
    /// Sets the clock of Redis back, by milliseconds. Lifetimes are measured by monotonic clocks, which are never set.
    SetBack(i64),
    /// An instance requests tokens: the minimum, more for other waiting requests, and some to prefetch.
    Request(usize, [Amount; 3]),
    Spend(usize, Amount),
    /// An instance spends all its prefetched tokens just before they expire.
    SpendBeforeExpiry(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let amounts = [
        strategies::amount(),
        strategies::amount(),
        strategies::amount(),
    ];
    prop_oneof![
        6 => strategies::pause().prop_map(Step::Wait),
        1 => (0..1_000_000_i64).prop_map(Step::SetBack),
        8 => (0..INSTANCES, amounts).prop_map(|(instance, amounts)| Step::Request(instance, amounts)),
        6 => (0..INSTANCES, strategies::amount())
            .prop_map(|(instance, amount)| Step::Spend(instance, amount)),
        2 => (0..INSTANCES).prop_map(Step::SpendBeforeExpiry),
    ]
}

/// Instances at one moment, and the exact bucket that everything they spend must fit in.
struct World<'a> {
    limit: RateLimit,
    /// In milliseconds, as all times and durations that follow.
    now: i64,
    /// Lag of the clock of Redis.
    behind: i64,
    lifetime: i64,
    /// Prefetched tokens of each instance, with the time until which they may be spent.
    prefetched: [Vec<(u64, i64)>; INSTANCES],
    exact: Bucket,
    shared: &'a Buckets,
}

impl World<'_> {
    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait(pause) => self.now += pause.of(self.limit),
            Step::SetBack(by) => self.behind += by,
            Step::Request(instance, amounts) => self.request(instance, amounts)?,
            Step::Spend(instance, amount) => self.spend(instance, amount.of(self.limit))?,
            Step::SpendBeforeExpiry(instance) => {
                let ends = self.prefetched[instance].iter().map(|(_, until)| until - 1);
                self.now = ends.min().unwrap_or(self.now).max(self.now);
                self.spend(instance, u64::MAX)?;
            }
        }
        Ok(())
    }

    fn request(&mut self, instance: usize, amounts: [Amount; 3]) -> Result<(), TestCaseError> {
        let [minimum, more, prefetch] = amounts.map(|amount| amount.of(self.limit).min(MAX_LIMIT));
        let request = Request {
            minimum,
            waiting: minimum + more,
            prefetch,
            lifetime: self.lifetime,
            ..Request::exactly(0, self.limit)
        };
        let grant = self.shared.take("bucket", request, self.now - self.behind);
        prop_assert!(grant.used <= self.limit.limit());
        if grant.tokens > 0 {
            prop_assert!(grant.tokens >= minimum);
            self.replay(minimum)?;
            self.prefetched[instance].push((grant.tokens - minimum, self.now + self.lifetime));
        }
        Ok(())
    }

    /// Spends prefetched tokens, as many as there are, first those that expire first.
    fn spend(&mut self, instance: usize, mut tokens: u64) -> Result<(), TestCaseError> {
        let mut prefetched = std::mem::take(&mut self.prefetched[instance]);
        prefetched.retain(|(_, until)| self.now < *until);
        for (left, _) in &mut prefetched {
            let spent = tokens.min(*left);
            tokens -= spent;
            *left -= spent;
            self.replay(spent)?;
        }
        prefetched.retain(|(left, _)| *left > 0);
        self.prefetched[instance] = prefetched;
        Ok(())
    }

    fn replay(&mut self, tokens: u64) -> Result<(), TestCaseError> {
        let fits = self.exact.take(tokens, self.now);
        prop_assert!(fits, "{tokens} tokens do not fit in {:?}", self.exact);
        Ok(())
    }
}

#[test]
fn prefetched_tokens_fit_in_one_bucket_when_they_are_spent() {
    let lifetime = prop_oneof![3 => Just(None), 1 => (1..5000_i64).prop_map(Some)];
    let schedule = (
        strategies::limit(),
        lifetime,
        prop::collection::vec(step(), 1..80),
    );
    check(1000, &schedule, |shared, (limit, lifetime, steps)| {
        let now = 1_000_000_000;
        let mut world = World {
            limit,
            now,
            behind: 0,
            lifetime: lifetime.unwrap_or(lifetime_of(limit)),
            prefetched: Default::default(),
            exact: Bucket::empty(limit, now),
            shared,
        };
        steps.into_iter().try_for_each(|step| world.take(step))
    });
}
