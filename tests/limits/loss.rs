//! What instances tell Redis when it is back fills the bucket, and never beyond the limit.

use proptest::prelude::*;

use crate::{
    any::{self, Amount, MOST, Pause},
    script::{Draw, Drawn, check},
};

#[derive(Debug, Clone)]
struct Step {
    pause: Pause,
    least: Amount,
    more: Amount,
    ahead: Amount,
}

fn step() -> impl Strategy<Value = Step> {
    (any::pause(), any::amount(), any::amount(), any::amount()).prop_map(
        |(pause, least, more, ahead)| Step {
            pause,
            least,
            more,
            ahead,
        },
    )
}

#[test]
fn what_was_taken_without_redis_fills_a_bucket_up_to_its_limit() {
    let told = [any::amount(), any::amount()];
    let before = prop::collection::vec(step(), 0..6);
    let case = (any::limit(), before, step(), told, proptest::bool::ANY);
    check(
        1500,
        &case,
        |buckets, (limit, before, last, told, raises)| {
            let draw = |step: &Step| {
                let least = step.least.of(limit).min(MOST);
                Draw {
                    least,
                    waiting: least + step.more.of(limit),
                    ahead: step.ahead.of(limit),
                    ..Draw::exactly(0, limit)
                }
            };
            let [floor, untold] = told.map(|amount| amount.of(limit));
            let of_last = draw(&last);
            let told = Draw {
                floor,
                untold,
                raises,
                ..of_last
            };
            let mut now = 1_000_000_000;
            for step in &before {
                now += step.pause.of(limit);
                for name in ["told", "not told"] {
                    buckets.draw(name, draw(step), now);
                }
            }
            now += last.pause.of(limit);
            let told = buckets.draw("told", told, now);
            let not_told = buckets.draw("not told", of_last, now);

            prop_assert!(told.used <= limit.limit());
            prop_assert!(told.taken <= not_told.taken);
            // Without what was taken just now.
            let parts = |drawn: Drawn| {
                let used = u128::from(drawn.used - drawn.taken);
                used * u128::from(limit.window_seconds()) * 1000 - u128::from(drawn.leaked)
            };
            prop_assert!(parts(told) >= parts(not_told), "{told:?}, {not_told:?}");
            let least = if before.is_empty() || raises {
                floor.max(untold)
            } else {
                untold
            };
            prop_assert!(told.used >= least.min(limit.limit()));
            Ok(())
        },
    );
}
