//! The locks of the cache: the standard library's. A model checker puts its own in their place, where
//! it includes the cache's file: `tests/model`.

pub(super) use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};
