//! What the decision itself takes, in the process, from a warm cache: a whole check of keys with limits
//! and without, and beside it SHA-256 and the checksum of the same key, which none can do without.
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
use latchkey::{config::LimitConfig, domain::api_key::KeyDigest};
use support::{
    engine::Leased,
    keys::{self, Limits},
};

const KEYS: usize = 10_000;
/// The decision besides SHA-256.
const TARGET_NANOS: f64 = 1000.0;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (limits, with) in Limits::all() {
        let engine = Leased::with(keys::generate(KEYS), with, &LimitConfig::default());
        engine.keys.iter().for_each(|key| engine.verify(key));
        decide(&mut criterion, &format!("one key, {limits}"), &engine, 1);
        // Of a quota each key would wait for its first blocks: that is not the decision.
        if with.quota.is_none() {
            let what = format!("each another of 10,000 keys, {limits}");
            decide(&mut criterion, &what, &engine, KEYS);
        }
    }
    criterion.final_summary();
}

/// Of so many of its keys.
fn decide(criterion: &mut Criterion, what: &str, engine: &Leased, count: usize) {
    let keys = || engine.keys[..count].iter().map(String::as_str).cycle();
    let _in_runtime = engine.enter();
    let mut all = keys();
    let mut waits = 0;
    let verify = measure(criterion, what, "verify", || {
        let key = all.next().unwrap();
        // For the next block of a quota, if it does not come in time.
        if engine.verify_at_once(key).is_none() {
            waits += 1;
            engine.verify(key);
        }
    });
    let mut all = keys();
    let digest = measure(criterion, what, "SHA-256 and checksum", || {
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
         {decision:.0}; {waits} waited   target less than {TARGET_NANOS} besides SHA-256: {verdict}\n"
    );
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
