//! What instances take ahead never lets more through than one bucket would.

use latchkey::{domain::limit::RateLimit, verification::limits::bucket::Bucket};
use proptest::prelude::*;

use crate::{
    any::{self, Amount, MOST, Pause},
    script::{Buckets, Draw, check, lease_of},
};

const INSTANCES: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Wait(Pause),
    /// Somebody sets Redis's clock back, by milliseconds. That of leases nobody sets.
    SetBack(i64),
    /// An instance asks for what somebody waits for, for what others do, and for some ahead.
    Draw(usize, [Amount; 3]),
    Spend(usize, Amount),
    /// An instance spends all that it has in hand at the last moment.
    SpendAtTheEnd(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let amounts = [any::amount(), any::amount(), any::amount()];
    prop_oneof![
        6 => any::pause().prop_map(Step::Wait),
        1 => (0..1_000_000_i64).prop_map(Step::SetBack),
        8 => (0..INSTANCES, amounts).prop_map(|(who, amounts)| Step::Draw(who, amounts)),
        6 => (0..INSTANCES, any::amount()).prop_map(|(who, amount)| Step::Spend(who, amount)),
        2 => (0..INSTANCES).prop_map(Step::SpendAtTheEnd),
    ]
}

/// Instances at a moment, and the one bucket that all they spend has to fit in.
struct World<'a> {
    limit: RateLimit,
    /// In milliseconds, as all that follow.
    now: i64,
    /// How far Redis's clock is behind.
    behind: i64,
    lease: i64,
    /// What an instance took ahead, and until when it may spend that.
    hands: [Vec<(u64, i64)>; INSTANCES],
    exact: Bucket,
    shared: &'a Buckets,
}

impl World<'_> {
    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait(pause) => self.now += pause.of(self.limit),
            Step::SetBack(by) => self.behind += by,
            Step::Draw(who, amounts) => self.draw(who, amounts)?,
            Step::Spend(who, amount) => self.spend(who, amount.of(self.limit))?,
            Step::SpendAtTheEnd(who) => {
                let ends = self.hands[who].iter().map(|(_, until)| until - 1);
                self.now = ends.min().unwrap_or(self.now).max(self.now);
                self.spend(who, u64::MAX)?;
            }
        }
        Ok(())
    }

    fn draw(&mut self, who: usize, amounts: [Amount; 3]) -> Result<(), TestCaseError> {
        let [least, more, ahead] = amounts.map(|amount| amount.of(self.limit).min(MOST));
        let draw = Draw {
            least,
            waiting: least + more,
            ahead,
            lease: self.lease,
            ..Draw::exactly(0, self.limit)
        };
        let drawn = self.shared.draw("bucket", draw, self.now - self.behind);
        prop_assert!(drawn.used <= self.limit.limit());
        if drawn.taken > 0 {
            prop_assert!(drawn.taken >= least);
            self.replay(least)?;
            self.hands[who].push((drawn.taken - least, self.now + self.lease));
        }
        Ok(())
    }

    /// Spends as much of it as is in hand, of what ends first.
    fn spend(&mut self, who: usize, mut units: u64) -> Result<(), TestCaseError> {
        let mut hand = std::mem::take(&mut self.hands[who]);
        hand.retain(|(_, until)| self.now < *until);
        for (left, _) in &mut hand {
            let spent = units.min(*left);
            units -= spent;
            *left -= spent;
            self.replay(spent)?;
        }
        hand.retain(|(left, _)| *left > 0);
        self.hands[who] = hand;
        Ok(())
    }

    fn replay(&mut self, units: u64) -> Result<(), TestCaseError> {
        let fits = self.exact.take(units, self.now);
        prop_assert!(fits, "{units} do not fit in {:?}", self.exact);
        Ok(())
    }
}

#[test]
fn what_is_spent_of_hands_fits_in_one_bucket_at_that_moment() {
    let lease = prop_oneof![3 => Just(None), 1 => (1..5000_i64).prop_map(Some)];
    let schedule = (any::limit(), lease, prop::collection::vec(step(), 1..80));
    check(1000, &schedule, |shared, (limit, lease, steps)| {
        let now = 1_000_000_000;
        let mut world = World {
            limit,
            now,
            behind: 0,
            lease: lease.unwrap_or(lease_of(limit)),
            hands: Default::default(),
            exact: Bucket::empty(limit, now),
            shared,
        };
        steps.into_iter().try_for_each(|step| world.take(step))
    });
}
