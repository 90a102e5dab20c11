//! Tests of [`super::cache`]. They are in a file of their own, since the model check in `tests/model` includes
//! `cache.rs`.

use std::collections::HashMap;

use proptest::prelude::*;

use super::cache::{Bounds, Cache};

fn cache(entries: usize, weight: usize) -> Cache<u32, u32> {
    Cache::new(Bounds { entries, weight })
}

fn put(cache: &Cache<u32, u32>, key: u32, value: u32, weight: usize) -> bool {
    let ticket = cache.get(&key).expect_err("a miss");
    cache.insert(ticket, key, value, weight)
}

#[test]
fn inserted_value_is_found() {
    let cache = cache(100, 100);
    assert!(put(&cache, 1, 10, 1));
    assert_eq!(cache.get(&1), Ok(10));
    assert!(cache.get(&2).is_err());
}

#[test]
fn value_looked_up_before_an_eviction_is_not_inserted() {
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
fn entry_that_is_found_outlives_entries_that_are_not() {
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
fn too_heavy_value_is_not_inserted() {
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
    /// The cache may lose entries, but never returns an outdated value and never exceeds its bounds.
    #[test]
    fn cache_returns_the_last_inserted_value_or_none(
        steps in prop::collection::vec(any_step(), 0..300),
        entries in 1usize..30,
    ) {
        let cache = cache(entries, 60);
        let mut expected = HashMap::new();
        for step in steps {
            match step {
                Step::Put(key, value, weight) => match cache.get(&key) {
                    Ok(found) => prop_assert_eq!(Some(&found), expected.get(&key)),
                    Err(ticket) => {
                        prop_assert!(cache.insert(ticket, key, value, weight));
                        expected.insert(key, value);
                        prop_assert_eq!(cache.get(&key), Ok(value));
                    }
                },
                Step::Get(key) => if let Ok(found) = cache.get(&key) {
                    prop_assert_eq!(Some(&found), expected.get(&key));
                },
                Step::Evict(key) => {
                    cache.evict(&key);
                    expected.remove(&key);
                }
                Step::EvictEven => {
                    cache.evict_where(|value| value % 2 == 0);
                    expected.retain(|_, value| *value % 2 != 0);
                }
                Step::Clear => {
                    cache.clear();
                    expected.clear();
                }
            }
            prop_assert!(cache.size().entries <= entries);
            prop_assert!(cache.size().weight <= 60);
        }
    }
}
