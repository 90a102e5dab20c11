//! Model check of the cache with loom: an evicted value is never inserted again by a concurrent lookup, in any order of
//! the threads' steps. It compiles the crate's `cache.rs` with loom's locks instead of the standard library's.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(
    dead_code,
    unreachable_pub,
    reason = "shared with the crate, which uses all of it"
)]
#[path = "../../src/verification/cache.rs"]
mod cache;

/// Locks and atomics that `cache.rs` imports.
mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use loom::sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    };
}

use loom::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use self::cache::{Bounds, Cache};

const KEY: u32 = 7;
const OTHER: u32 = 8;
const GOOD: u32 = 0;
const REVOKED: u32 = 1;

struct Instance {
    /// State of the key in the database.
    database_state: AtomicU32,
    cache: Cache<u32, u32>,
}

impl Instance {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            database_state: AtomicU32::new(GOOD),
            cache: Cache::new(Bounds {
                entries: 2,
                weight: 16,
            }),
        })
    }

    /// Looks the key up as a request does: in the cache, then in the database.
    fn look_up(&self) -> u32 {
        match self.cache.get(&KEY) {
            Ok(found) => found,
            Err(ticket) => {
                let read = self.database_state.load(Ordering::SeqCst);
                self.cache.insert(ticket, KEY, read, 1);
                read
            }
        }
    }
}

/// Runs two requests concurrently with a change that revokes the key and calls `evict`.
fn assert_no_order_leaves_the_old_value(
    evict: impl Fn(&Cache<u32, u32>) + Send + Sync + Copy + 'static,
) {
    let mut model = loom::model::Builder::new();
    // Limits how often threads preempt one another: all orders would take a minute.
    model.preemption_bound = Some(3);
    model.check(move || {
        let instance = Instance::new();
        let requests: Vec<_> = (0..2)
            .map(|_| {
                let instance = instance.clone();
                thread::spawn(move || instance.look_up())
            })
            .collect();
        instance.database_state.store(REVOKED, Ordering::SeqCst);
        evict(&instance.cache);
        // The change has responded.
        assert_eq!(instance.look_up(), REVOKED);
        requests
            .into_iter()
            .for_each(|request| assert!(request.join().unwrap() <= REVOKED));
        assert_eq!(instance.look_up(), REVOKED);
    });
}

#[test]
fn evicted_key_stays_evicted_in_every_order() {
    assert_no_order_leaves_the_old_value(|cache| cache.evict(&KEY));
}

#[test]
fn key_evicted_by_value_stays_evicted_in_every_order() {
    assert_no_order_leaves_the_old_value(|cache| cache.evict_where(|value| *value == GOOD));
}

#[test]
fn cleared_cache_stays_without_old_values_in_every_order() {
    assert_no_order_leaves_the_old_value(Cache::clear);
}

/// Proves that the model detects the fault: with a ticket from after the lookup, some order keeps the old value.
#[test]
#[should_panic(expected = "left == right")]
fn ticket_taken_after_the_lookup_leaves_the_old_value_in_some_order() {
    loom::model(|| {
        let instance = Instance::new();
        let late = instance.clone();
        let request = thread::spawn(move || {
            let read = late.database_state.load(Ordering::SeqCst);
            late.cache.insert(late.cache.ticket(&KEY), KEY, read, 1);
        });
        instance.database_state.store(REVOKED, Ordering::SeqCst);
        instance.cache.evict(&KEY);
        request.join().unwrap();
        assert_eq!(instance.look_up(), REVOKED);
    });
}

/// Evicts entries for new keys during a lookup.
#[test]
fn lookup_never_returns_the_value_of_another_key() {
    loom::model(|| {
        let instance = Instance::new();
        let filler = instance.clone();
        let fill = thread::spawn(move || {
            for key in [OTHER, OTHER + 1] {
                let ticket = filler.cache.ticket(&key);
                filler.cache.insert(ticket, key, key, 1);
            }
        });
        instance.look_up();
        assert_eq!(instance.look_up(), GOOD);
        fill.join().unwrap();
        assert_eq!(instance.look_up(), GOOD);
    });
}
