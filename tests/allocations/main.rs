//! What a check allocates: nothing, once the key is remembered; and what a key that is remembered takes.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod counting;
#[path = "../../benches/support/engine.rs"]
mod engine;
#[expect(dead_code, reason = "it is written for the benchmarks")]
#[path = "../../benches/support/keys.rs"]
mod keys;

use engine::Leased;

/// What `CACHE_MAX_KEYS` says of each key.
const BYTES_PER_KEY: usize = 512;

#[test]
fn a_check_from_memory_allocates_nothing() {
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
fn allocations_are_counted() {
    assert_eq!(counting::allocations(|| drop(Box::new([0; 100]))), 1);
}

#[test]
fn a_key_that_is_remembered_takes_less_than_is_promised() {
    const KEYS: usize = 20_000;
    let engine = Leased::with_keys(KEYS);
    let before = counting::bytes();
    for key in &engine.keys {
        engine.verify(key);
    }
    let grown = counting::bytes().saturating_sub(before);
    let each = grown as f64 / KEYS as f64;
    println!("{each:.0} bytes for each of {KEYS} keys that are remembered");
    for key in &engine.keys {
        assert!(engine.verify_at_once(key).is_some(), "it is remembered");
    }
    assert!(each < BYTES_PER_KEY as f64, "{each}");
}
