//! The cache's guard against filling in what is no longer so, under every order in which threads can
//! take its steps: the same file as in the crate, with loom's locks in the place of the standard
//! library's.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(dead_code, unreachable_pub, reason = "it is written for the crate")]
#[path = "../../src/verification/cache.rs"]
mod cache;

/// What the cache asks for.
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
    /// What the database says of the key.
    truth: AtomicU32,
    cache: Cache<u32, u32>,
}

impl Instance {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            truth: AtomicU32::new(GOOD),
            cache: Cache::new(Bounds {
                entries: 2,
                weight: 16,
            }),
        })
    }

    /// As a request does.
    fn look_up(&self) -> u32 {
        match self.cache.get(&KEY) {
            Ok(found) => found,
            Err(ticket) => {
                let read = self.truth.load(Ordering::SeqCst);
                self.cache.insert(ticket, KEY, read, 1);
                read
            }
        }
    }
}

/// Two requests beside a change, which evicts in this way.
fn no_order_leaves_what_was_before(
    evict: impl Fn(&Cache<u32, u32>) + Send + Sync + Copy + 'static,
) {
    let mut model = loom::model::Builder::new();
    // Threads take turns at any point, but no more often than this: every order would take a minute.
    model.preemption_bound = Some(3);
    model.check(move || {
        let instance = Instance::new();
        let requests: Vec<_> = (0..2)
            .map(|_| {
                let instance = instance.clone();
                thread::spawn(move || instance.look_up())
            })
            .collect();
        instance.truth.store(REVOKED, Ordering::SeqCst);
        evict(&instance.cache);
        // The change has answered.
        assert_eq!(instance.look_up(), REVOKED);
        requests
            .into_iter()
            .for_each(|request| assert!(request.join().unwrap() <= REVOKED));
        assert_eq!(instance.look_up(), REVOKED);
    });
}

#[test]
fn no_order_leaves_a_key_that_was_evicted() {
    no_order_leaves_what_was_before(|cache| cache.evict(&KEY));
}

#[test]
fn no_order_leaves_a_key_of_a_user_that_was_evicted() {
    no_order_leaves_what_was_before(|cache| cache.evict_where(|value| *value == GOOD));
}

#[test]
fn no_order_leaves_a_key_when_everything_was_forgotten() {
    no_order_leaves_what_was_before(Cache::clear);
}

/// The model sees what it should: with a ticket from after the lookup, there is such an order.
#[test]
#[should_panic(expected = "left == right")]
fn with_a_late_ticket_some_order_leaves_it() {
    loom::model(|| {
        let instance = Instance::new();
        let late = instance.clone();
        let request = thread::spawn(move || {
            let read = late.truth.load(Ordering::SeqCst);
            late.cache.insert(late.cache.ticket(&KEY), KEY, read, 1);
        });
        instance.truth.store(REVOKED, Ordering::SeqCst);
        instance.cache.evict(&KEY);
        request.join().unwrap();
        assert_eq!(instance.look_up(), REVOKED);
    });
}

/// Room is made for others while somebody looks.
#[test]
fn no_order_finds_one_key_under_another() {
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
