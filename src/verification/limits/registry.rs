//! What is counted of many things, in key_cache: bounded, and without a lock across them.

use std::{
    collections::HashMap,
    hash::RandomState,
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

const SHARDS: usize = 64;

/// What can be forgotten without losing anything once it is idle.
pub(super) trait Counter {
    /// Whether it is as one that is new.
    fn is_idle(&self) -> bool;
}

/// The counters of things by their names. There are never two of one thing: what is in use stays.
pub(super) struct Registry<K, C> {
    shards: Vec<Mutex<HashMap<K, Arc<C>>>>,
    hasher: RandomState,
    /// Past it a shard looks for what can go.
    shard_bound: usize,
}

impl<K: Hash + Eq + Copy, C: Counter> Registry<K, C> {
    /// For so many counters. It holds more only if more are in use elsewhere.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_bound: bound.div_ceil(SHARDS),
        }
    }

    /// The counter of a thing, made if it is new. Those that had to go for it are given to `gone`.
    pub(super) fn get(&self, key: K, make: impl FnOnce() -> C, mut gone: impl FnMut(&C)) -> Arc<C> {
        let mut shard = self.shard(&key);
        if let Some(counter) = shard.get(&key) {
            return counter.clone();
        }
        if shard.len() >= self.shard_bound {
            make_room(&mut shard, self.shard_bound, &mut gone);
        }
        shard.entry(key).or_insert_with(|| Arc::new(make())).clone()
    }

    /// All of them, a shard at a time.
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

/// Forgets what is idle, and if that is little, what nobody uses at the moment, an eighth in all: so that
/// the next ones find room.
fn make_room<K: Hash + Eq + Copy, C: Counter>(
    shard: &mut HashMap<K, Arc<C>>,
    bound: usize,
    gone: &mut impl FnMut(&C),
) {
    let is_unused = |counter: &Arc<C>| Arc::strong_count(counter) == 1;
    shard.retain(|_, counter| !is_unused(counter) || !counter.is_idle());
    let mut surplus = (shard.len() + bound / 8 + 1).saturating_sub(bound);
    shard.retain(|_, counter| {
        let goes = surplus > 0 && is_unused(counter);
        if goes {
            surplus -= 1;
            gone(counter);
        }
        !goes
    });
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Thing {
        number: usize,
        idle: AtomicBool,
    }

    impl Counter for Thing {
        fn is_idle(&self) -> bool {
            self.idle.load(Ordering::Relaxed)
        }
    }

    const BOUND: usize = 640;

    /// Asks for it, and answers what had to go.
    fn get(registry: &Registry<usize, Thing>, number: usize, idle: bool) -> (Arc<Thing>, usize) {
        let mut gone = 0;
        let make = || Thing {
            number,
            idle: AtomicBool::new(idle),
        };
        (registry.get(number, make, |_| gone += 1), gone)
    }

    fn len(registry: &Registry<usize, Thing>) -> usize {
        let mut count = 0;
        registry.for_each(|_| count += 1);
        count
    }

    #[test]
    fn what_is_idle_goes_first_and_is_not_missed() {
        let registry = Registry::new(BOUND);
        let busy: Vec<_> = (0..BOUND / 8)
            .map(|number| get(&registry, number, false).0)
            .collect();
        drop(busy);
        for number in BOUND..20 * BOUND {
            let (thing, gone) = get(&registry, number, true);
            assert_eq!((thing.number, gone), (number, 0));
            assert!(len(&registry) <= BOUND + BOUND / 8);
        }
        for number in 0..BOUND / 8 {
            assert!(
                !get(&registry, number, true).0.is_idle(),
                "{number} was forgotten"
            );
        }
    }

    #[test]
    fn it_is_bounded_but_for_what_is_in_use() {
        let registry = Registry::new(BOUND);
        let held: Vec<_> = (0..2 * BOUND)
            .map(|number| get(&registry, number, false).0)
            .collect();
        let mut all_gone = 0;
        for number in 2 * BOUND..10 * BOUND {
            all_gone += get(&registry, number, false).1;
            assert!(len(&registry) <= 3 * BOUND);
        }
        assert!(all_gone > 0);
        for (number, thing) in held.iter().enumerate() {
            assert!(
                Arc::ptr_eq(thing, &get(&registry, number, false).0),
                "{number}: two of one"
            );
        }
    }
}
