//! Tests of [`super::cache`], apart from it: its file is included by the model in `tests/model` too.

use std::collections::HashMap;

use proptest::prelude::*;

use super::cache::{Bounds, Cache};

fn cache(entries: usize, weight: usize) -> Cache<u32, u32> {
    Cache::new(Bounds { entries, weight })
}

fn put(cache: &Cache<u32, u32>, key: u32, value: u32, weight: usize) -> bool {
    let ticket = cache.get(&key).expect_err("nothing there");
    cache.insert(ticket, key, value, weight)
}

#[test]
fn what_was_brought_is_found() {
    let cache = cache(100, 100);
    assert!(put(&cache, 1, 10, 1));
    assert_eq!(cache.get(&1), Ok(10));
    assert!(cache.get(&2).is_err());
}

#[test]
fn what_was_looked_up_before_an_eviction_is_not_taken() {
    let cache = cache(100, 100);
    let evictions: [&dyn Fn(); 3] = [
        &|| cache.evict(&1),
        &|| cache.evict_where(|value| *value == 7),
        &|| cache.clear(),
    ];
    for evict in evictions {
        let ticket = cache.get(&1).unwrap_err();
        evict();
        assert!(!cache.insert(ticket, 1, 10, 1));
        assert!(cache.get(&1).is_err());
    }
}

#[test]
fn what_is_found_outlives_what_is_not() {
    let cache = cache(100, 1000);
    for key in 0..10_000 {
        if key > 0 {
            assert_eq!(cache.get(&0), Ok(0), "{key}");
        }
        assert!(put(&cache, key, key, 1));
    }
    assert_eq!(cache.size().entries, 100);
}

#[test]
fn what_weighs_too_much_is_not_taken() {
    let cache = cache(100, 80);
    assert!(!put(&cache, 1, 1, 11));
    for key in 0..100 {
        assert!(put(&cache, key, key, 10));
    }
    assert_eq!(cache.size().entries, 8);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u32, u32, usize),
    Get(u32),
    Evict(u32),
    EvictEven,
    Clear,
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = 0u32..40;
    prop_oneof![
        8 => (key.clone(), any::<u32>(), 1usize..6).prop_map(|(k, v, w)| Step::Put(k, v, w)),
        8 => key.clone().prop_map(Step::Get),
        2 => key.prop_map(Step::Evict),
        1 => Just(Step::EvictEven),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    /// It may forget, but what it says is what was brought last, and it keeps its bounds.
    #[test]
    fn it_says_what_was_brought_last_or_nothing(
        steps in prop::collection::vec(any_step(), 0..300),
        entries in 1usize..30,
    ) {
        let cache = cache(entries, 60);
        let mut truth = HashMap::new();
        for step in steps {
            match step {
                Step::Put(key, value, weight) => match cache.get(&key) {
                    Ok(found) => prop_assert_eq!(Some(&found), truth.get(&key)),
                    Err(ticket) => {
                        prop_assert!(cache.insert(ticket, key, value, weight));
                        truth.insert(key, value);
                        prop_assert_eq!(cache.get(&key), Ok(value));
                    }
                },
                Step::Get(key) => if let Ok(found) = cache.get(&key) {
                    prop_assert_eq!(Some(&found), truth.get(&key));
                },
                Step::Evict(key) => {
                    cache.evict(&key);
                    truth.remove(&key);
                }
                Step::EvictEven => {
                    cache.evict_where(|value| value % 2 == 0);
                    truth.retain(|_, value| *value % 2 != 0);
                }
                Step::Clear => {
                    cache.clear();
                    truth.clear();
                }
            }
            prop_assert!(cache.size().entries <= entries);
            prop_assert!(cache.size().weight <= 60);
        }
    }
}
