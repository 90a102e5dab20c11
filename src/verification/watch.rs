//! What an engine says of itself to those who watch it. No request waits for any of it.

use std::time::{Duration, Instant};

pub use crate::verification::{
    check_counters::Checks,
    key_cache::{KeyCacheUse, LeaseStatus},
};
use crate::verification::{engine::Engine, key_cache::KeyCache};

/// How often who waits for the first lease looks for it.
const LOOK_FOR_LEASE: Duration = Duration::from_millis(5);

impl Engine {
    /// How often keys were checked so far.
    pub fn checks(&self) -> Vec<Checks> {
        self.meter.checks()
    }

    /// What is remembered of keys; `None` if nothing ever is.
    pub fn cache_usage(&self) -> Option<KeyCacheUse> {
        self.key_cache.as_deref().map(KeyCache::usage)
    }

    /// How it stands with the lease on it; `None` where it needs none.
    pub fn lease(&self) -> Option<LeaseStatus> {
        self.key_cache.as_deref().map(KeyCache::lease_status)
    }

    /// Whether the lease is there, or needs not be. The first one is waited for.
    pub async fn is_leased(&self, first_within: Duration) -> bool {
        let waited = Instant::now();
        while let Some(lease) = self.lease() {
            if lease.left > Duration::ZERO {
                return true;
            }
            if lease.age.is_some() || waited.elapsed() >= first_within {
                return false;
            }
            tokio::time::sleep(LOOK_FOR_LEASE).await;
        }
        true
    }

    /// Keys whose last use is not written yet.
    pub fn last_used_waiting(&self) -> usize {
        self.last_used.len()
    }
}
