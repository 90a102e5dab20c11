//! What the decision itself takes, in the process, from a warm cache: a whole check, and beside it
//! SHA-256 and the checksum of the same key, which none can do without.
//!
//! `cargo bench --bench decision`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

#[expect(dead_code, reason = "made for the other benchmarks as well")]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use latchkey::core::security::api_key::KeyDigest;
use support::engine::Leased;

/// The decision besides SHA-256.
const TARGET_NANOS: f64 = 1000.0;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let engine = Leased::with_keys(10_000);
    for key in &engine.keys {
        engine.verify(key);
    }
    let keys = |count: usize| engine.keys[..count].iter().map(String::as_str).cycle();
    for (what, count) in [("one key", 1), ("each another of 10,000 keys", 10_000)] {
        let mut all = keys(count);
        let verify = measure(&mut criterion, what, "verify", || {
            engine.verify_at_once(all.next().unwrap()).unwrap();
        });
        let mut all = keys(count);
        let digest = measure(&mut criterion, what, "SHA-256 and checksum", || {
            black_box(KeyDigest::of_presented(black_box(all.next().unwrap()))).unwrap();
        });
        let decision = verify - digest;
        let verdict = if decision < TARGET_NANOS {
            "met"
        } else {
            "missed"
        };
        println!(
            "{what}: {verify:.0} ns, of which SHA-256 and checksum {digest:.0} and the decision \
             {decision:.0}   target less than {TARGET_NANOS} besides SHA-256: {verdict}\n"
        );
    }
    criterion.final_summary();
}

/// The median, in nanoseconds.
fn measure(criterion: &mut Criterion, group: &str, name: &str, mut work: impl FnMut()) -> f64 {
    let mut samples = Vec::new();
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let started = Instant::now();
            (0..times).for_each(|_| work());
            let took: Duration = started.elapsed();
            samples.push(took.as_nanos() as f64 / times as f64);
            took
        });
    });
    group.finish();
    samples.sort_unstable_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
