//! Memory use: a check of a cached key allocates nothing, and a cached key takes no more memory than documented.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod counting;
#[path = "../../benches/support/engine.rs"]
mod engine;
#[expect(dead_code, reason = "shared with the benchmarks, which use all of it")]
#[path = "../../benches/support/keys.rs"]
mod keys;

use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::Leased;
use keys::Limits;
use latchkey::config::LimitConfig;

/// Lets one test run at a time: bytes are counted for all threads.
fn run_exclusively() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of one cached key, as documented for `CACHE_MAX_KEYS`.
const BYTES_PER_KEY: usize = 512;

#[test]
fn check_of_cached_key_allocates_nothing() {
    let _exclusive = run_exclusively();
    let engine = Leased::with_keys(100);
    let verify_all = || {
        for key in &engine.keys {
            engine.verify_at_once(key).unwrap();
        }
    };
    // Verified twice before counting: the first use of a key is queued for its `last_used` timestamp.
    for key in &engine.keys {
        engine.verify(key);
    }
    verify_all();
    assert_eq!(counting::allocations(verify_all), 0);
}

#[test]
fn check_of_cached_key_with_limits_allocates_only_for_refills() {
    let _exclusive = run_exclusively();
    for (name, limits) in Limits::all() {
        let engine = Leased::with(keys::generate(1), limits, &LimitConfig::default());
        let key = &engine.keys[0];
        let _in_runtime = engine.enter();
        // Enough requests for a large quota block: its size follows recent use.
        (0..20_000).for_each(|_| engine.verify(key));
        let check = || engine.verify_at_once(key).expect(name);
        let checks = (0..1000).map(|_| counting::allocations(check));
        let refills = checks.filter(|count| *count > 0).count();
        // A check that leaves few units in the block starts a refill.
        let max_refills = if limits.quota.is_some() { 2 } else { 0 };
        assert!(refills <= max_refills, "{name}: {refills}");
    }
}

#[test]
fn heap_allocation_is_counted_once() {
    assert_eq!(counting::allocations(|| drop(Box::new([0; 100]))), 1);
}

#[test]
fn cached_key_takes_less_memory_than_documented() {
    let _exclusive = run_exclusively();
    let engine = Leased::with_keys(20_000);
    let bytes_per_key = bytes_per_new_key(&engine);
    println!("{bytes_per_key:.0} bytes for each of 20,000 cached keys");
    for key in &engine.keys {
        assert!(engine.verify_at_once(key).is_some(), "the key is cached");
    }
    assert!(bytes_per_key < BYTES_PER_KEY as f64, "{bytes_per_key}");
}

/// The counters of a key's limits are kept beside it, and there is room for as many of them as for keys.
#[test]
fn cached_key_with_limits_takes_at_most_three_times_as_much_memory() {
    let _exclusive = run_exclusively();
    for (name, limits) in Limits::all() {
        let engine = Leased::with(keys::generate(2000), limits, &LimitConfig::default());
        let bytes_per_key = bytes_per_new_key(&engine);
        println!("{bytes_per_key:.0} bytes for each of 2000 keys with {name}");
        assert!(
            bytes_per_key < 3.0 * BYTES_PER_KEY as f64,
            "{name}: {bytes_per_key}"
        );
    }
}

/// Returns the average number of bytes allocated for a key that is used for the first time.
fn bytes_per_new_key(engine: &Leased) -> f64 {
    let before = counting::bytes();
    engine.keys.iter().for_each(|key| engine.verify(key));
    counting::bytes().saturating_sub(before) as f64 / engine.keys.len() as f64
}
