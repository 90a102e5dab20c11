//! Bounded in-memory map of counters, in shards that are locked one at a time.

use std::{
    collections::HashMap,
    hash::RandomState,
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

const SHARDS: usize = 64;

/// Counter that can be evicted without loss once it is idle.
pub(super) trait Counter {
    /// Returns whether the counter equals a new one.
    fn is_idle(&self) -> bool;
}

/// Counters by key. There are never two counters of one key: a counter in use is not evicted.
pub(super) struct Registry<K, C> {
    shards: Vec<Mutex<HashMap<K, Arc<C>>>>,
    hasher: RandomState,
    /// Size at which a shard evicts counters.
    shard_bound: usize,
}

impl<K: Hash + Eq + Copy, C: Counter> Registry<K, C> {
    /// Creates a registry of at most `bound` counters. It holds more only if more are in use.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_bound: bound.div_ceil(SHARDS),
        }
    }

    /// Returns the counter of a key, and creates it if there is none. Counters that are evicted before they are idle
    /// are passed to `on_evict`.
    pub(super) fn get(
        &self,
        key: K,
        create: impl FnOnce() -> C,
        mut on_evict: impl FnMut(&C),
    ) -> Arc<C> {
        let mut shard = self.shard(&key);
        if let Some(counter) = shard.get(&key) {
            return counter.clone();
        }
        if shard.len() >= self.shard_bound {
            make_room(&mut shard, self.shard_bound, &mut on_evict);
        }
        shard
            .entry(key)
            .or_insert_with(|| Arc::new(create()))
            .clone()
    }

    /// Calls `each` for all counters, one shard at a time.
    pub(super) fn for_each(&self, mut each: impl FnMut(&Arc<C>)) {
        for shard in &self.shards {
            lock(shard).values().for_each(&mut each);
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Arc<C>>> {
        let hash = self.hasher.hash_one(key);
        lock(&self.shards[hash as usize % SHARDS])
    }
}

/// Evicts idle counters. Then evicts counters that are not in use until an eighth of the bound is free, so that the
/// next insertions find room.
fn make_room<K: Hash + Eq + Copy, C: Counter>(
    shard: &mut HashMap<K, Arc<C>>,
    bound: usize,
    on_evict: &mut impl FnMut(&C),
) {
    let is_unused = |counter: &Arc<C>| Arc::strong_count(counter) == 1;
    shard.retain(|_, counter| !is_unused(counter) || !counter.is_idle());
    let mut surplus = (shard.len() + bound / 8 + 1).saturating_sub(bound);
    shard.retain(|_, counter| {
        let is_evicted = surplus > 0 && is_unused(counter);
        if is_evicted {
            surplus -= 1;
            on_evict(counter);
        }
        !is_evicted
    });
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct TestCounter {
        number: usize,
        idle: AtomicBool,
    }

    impl Counter for TestCounter {
        fn is_idle(&self) -> bool {
            self.idle.load(Ordering::Relaxed)
        }
    }

    const BOUND: usize = 640;

    /// Gets a counter. Returns also how many counters were evicted for it before they were idle.
    fn get(
        registry: &Registry<usize, TestCounter>,
        number: usize,
        idle: bool,
    ) -> (Arc<TestCounter>, usize) {
        let mut evicted = 0;
        let create = || TestCounter {
            number,
            idle: AtomicBool::new(idle),
        };
        (registry.get(number, create, |_| evicted += 1), evicted)
    }

    fn len(registry: &Registry<usize, TestCounter>) -> usize {
        let mut count = 0;
        registry.for_each(|_| count += 1);
        count
    }

    #[test]
    fn idle_counters_are_evicted_before_busy_ones() {
        let registry = Registry::new(BOUND);
        let busy: Vec<_> = (0..BOUND / 8)
            .map(|number| get(&registry, number, false).0)
            .collect();
        drop(busy);
        for number in BOUND..20 * BOUND {
            let (counter, evicted) = get(&registry, number, true);
            assert_eq!((counter.number, evicted), (number, 0));
            assert!(len(&registry) <= BOUND + BOUND / 8);
        }
        for number in 0..BOUND / 8 {
            assert!(
                !get(&registry, number, true).0.is_idle(),
                "{number} was evicted"
            );
        }
    }

    #[test]
    fn size_is_bounded_except_for_counters_in_use() {
        let registry = Registry::new(BOUND);
        let in_use: Vec<_> = (0..2 * BOUND)
            .map(|number| get(&registry, number, false).0)
            .collect();
        let mut total_evicted = 0;
        for number in 2 * BOUND..10 * BOUND {
            total_evicted += get(&registry, number, false).1;
            assert!(len(&registry) <= 3 * BOUND);
        }
        assert!(total_evicted > 0);
        for (number, counter) in in_use.iter().enumerate() {
            assert!(
                Arc::ptr_eq(counter, &get(&registry, number, false).0),
                "{number}: two counters of one key"
            );
        }
    }
}
