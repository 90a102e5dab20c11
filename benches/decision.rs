//! Duration of a decision in the process, with a warm cache: a complete check of keys with and without limits.
//!
//! It is compared with SHA-256 and the checksum of the same key, which every implementation needs.
//!
//! `cargo bench --bench decision`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail"
)]

#[expect(dead_code, reason = "shared with the other benchmarks")]
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
/// Target for the decision without SHA-256 and checksum, in nanoseconds.
const TARGET_NANOS: f64 = 1000.0;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (limits, with) in Limits::all() {
        let engine = Leased::with(keys::generate(KEYS), with, &LimitConfig::default());
        engine.keys.iter().for_each(|key| engine.verify(key));
        decide(&mut criterion, &format!("one key, {limits}"), &engine, 1);
        // With a quota, each key would first wait for a block of units. That is not part of the decision.
        if with.quota.is_none() {
            let name = format!("10,000 keys in turn, {limits}");
            decide(&mut criterion, &name, &engine, KEYS);
        }
    }
    criterion.final_summary();
}

/// Measures decisions about the first `count` keys of an engine.
fn decide(criterion: &mut Criterion, name: &str, engine: &Leased, count: usize) {
    let keys = || engine.keys[..count].iter().map(String::as_str).cycle();
    let _in_runtime = engine.enter();
    let mut all = keys();
    let mut waits = 0;
    let verify = measure(criterion, name, "verify", || {
        let key = all.next().unwrap();
        // The check waits if the next block of a quota is not there in time.
        if engine.verify_at_once(key).is_none() {
            waits += 1;
            engine.verify(key);
        }
    });
    let mut all = keys();
    let digest = measure(criterion, name, "SHA-256 and checksum", || {
        black_box(KeyDigest::of_presented(black_box(all.next().unwrap()))).unwrap();
    });
    let decision = verify - digest;
    let verdict = if decision < TARGET_NANOS {
        "met"
    } else {
        "missed"
    };
    println!(
        "{name}: {verify:.0} ns, of which SHA-256 and checksum {digest:.0} and the decision \
         {decision:.0}; {waits} waited   target for the decision: less than {TARGET_NANOS} ns: {verdict}\n"
    );
}

/// Returns the median duration in nanoseconds.
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
