//! Locks and atomics of the cache, from the standard library. The model check in `tests/model` includes `cache.rs` and
//! replaces this module by the types of loom.

pub(super) use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};
