//! What a check allocates: nothing, once the key is remembered; and what a key that is remembered takes.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod counting;
#[path = "../../benches/support/engine.rs"]
mod engine;
#[expect(dead_code, reason = "it is written for the benchmarks")]
#[path = "../../benches/support/keys.rs"]
mod keys;

use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::Leased;
use keys::Limits;
use latchkey::config::LimitConfig;

/// Bytes are those of all threads: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `CACHE_MAX_KEYS` says of each key.
const BYTES_PER_KEY: usize = 512;

#[test]
fn a_check_from_memory_allocates_nothing() {
    let _alone = alone();
    let engine = Leased::with_keys(100);
    let verify_all = || {
        for key in &engine.keys {
            engine.verify_at_once(key).unwrap();
        }
    };
    // Twice: the first use of a key is noted, to be written.
    for key in &engine.keys {
        engine.verify(key);
    }
    verify_all();
    assert_eq!(counting::allocations(verify_all), 0);
}

#[test]
fn nor_does_it_with_limits_of_which_enough_is_in_hand() {
    let _alone = alone();
    for (what, limits) in Limits::all() {
        let engine = Leased::with(keys::generate(1), limits, &LimitConfig::default());
        let key = &engine.keys[0];
        let _in_runtime = engine.enter();
        // A block of a quota is as large as the pace is.
        (0..20_000).for_each(|_| engine.verify(key));
        let check = || engine.verify_at_once(key).expect(what);
        let checks = (0..1000).map(|_| counting::allocations(check));
        let asked = checks.filter(|count| *count > 0).count();
        // Who finds little in hand asks for the next block.
        let may_ask = if limits.quota.is_some() { 2 } else { 0 };
        assert!(asked <= may_ask, "{what}: {asked}");
    }
}

#[test]
fn allocations_are_counted() {
    assert_eq!(counting::allocations(|| drop(Box::new([0; 100]))), 1);
}

#[test]
fn a_key_that_is_remembered_takes_less_than_is_promised() {
    let _alone = alone();
    let engine = Leased::with_keys(20_000);
    let each = bytes_of_each(&engine);
    println!("{each:.0} bytes for each of 20,000 keys that are remembered");
    for key in &engine.keys {
        assert!(engine.verify_at_once(key).is_some(), "it is remembered");
    }
    assert!(each < BYTES_PER_KEY as f64, "{each}");
}

/// What is counted of it is remembered beside it, and as many of those are there.
#[test]
fn with_limits_it_takes_three_times_as_much_at_the_most() {
    let _alone = alone();
    for (what, limits) in Limits::all() {
        let engine = Leased::with(keys::generate(2000), limits, &LimitConfig::default());
        let each = bytes_of_each(&engine);
        println!("{each:.0} bytes for each of 2000 keys with {what}");
        assert!(each < 3.0 * BYTES_PER_KEY as f64, "{what}: {each}");
    }
}

/// What it allocates for each key that is used for the first time, on the average.
fn bytes_of_each(engine: &Leased) -> f64 {
    let before = counting::bytes();
    engine.keys.iter().for_each(|key| engine.verify(key));
    counting::bytes().saturating_sub(before) as f64 / engine.keys.len() as f64
}
