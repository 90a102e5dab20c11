//! Tokens that instances report when Redis is reachable again fill the bucket, but never beyond its limit.

use proptest::prelude::*;

use crate::{
    script::{Grant, Request, check},
    strategies::{self, Amount, MAX_LIMIT, Pause},
};

#[derive(Debug, Clone)]
struct Step {
    pause: Pause,
    minimum: Amount,
    more: Amount,
    prefetch: Amount,
}

fn step() -> impl Strategy<Value = Step> {
    (
        strategies::pause(),
        strategies::amount(),
        strategies::amount(),
        strategies::amount(),
    )
        .prop_map(|(pause, minimum, more, prefetch)| Step {
            pause,
            minimum,
            more,
            prefetch,
        })
}

#[test]
fn reported_tokens_fill_the_bucket_up_to_its_limit() {
    let report = [strategies::amount(), strategies::amount()];
    let before = prop::collection::vec(step(), 0..6);
    let case = (
        strategies::limit(),
        before,
        step(),
        report,
        proptest::bool::ANY,
    );
    check(
        1500,
        &case,
        |buckets, (limit, before, last, report, raises)| {
            let request = |step: &Step| {
                let minimum = step.minimum.of(limit).min(MAX_LIMIT);
                Request {
                    minimum,
                    waiting: minimum + step.more.of(limit),
                    prefetch: step.prefetch.of(limit),
                    ..Request::exactly(0, limit)
                }
            };
            let [floor, unreported] = report.map(|amount| amount.of(limit));
            let without_report = request(&last);
            let with_report = Request {
                floor,
                unreported,
                raises,
                ..without_report
            };
            let mut now = 1_000_000_000;
            for step in &before {
                now += step.pause.of(limit);
                for name in ["reported", "unreported"] {
                    buckets.take(name, request(step), now);
                }
            }
            now += last.pause.of(limit);
            let reported = buckets.take("reported", with_report, now);
            let unreported_grant = buckets.take("unreported", without_report, now);

            prop_assert!(reported.used <= limit.limit());
            prop_assert!(reported.tokens <= unreported_grant.tokens);
            // Without the tokens that were taken just now.
            let parts = |grant: Grant| {
                let used = u128::from(grant.used - grant.tokens);
                used * u128::from(limit.window_seconds()) * 1000 - u128::from(grant.leaked)
            };
            prop_assert!(
                parts(reported) >= parts(unreported_grant),
                "{reported:?}, {unreported_grant:?}"
            );
            let at_least = if before.is_empty() || raises {
                floor.max(unreported)
            } else {
                unreported
            };
            prop_assert!(reported.used >= at_least.min(limit.limit()));
            Ok(())
        },
    );
}
