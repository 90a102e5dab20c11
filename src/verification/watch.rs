//! Readings of an engine for metrics and readiness checks. Requests never wait for them.

use std::time::{Duration, Instant};

use super::{engine::Engine, key_cache::KeyCache};
pub use crate::verification::{
    check_counters::Checks,
    key_cache::{KeyCacheUsage, LeaseStatus},
};

/// Interval at which [`Engine::is_leased`] polls for the first lease.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(5);

impl Engine {
    /// Returns the numbers of checks since the start.
    pub fn checks(&self) -> Vec<Checks> {
        self.check_counters.checks()
    }

    /// Returns the size of the cache. `None` if it is disabled.
    pub fn cache_usage(&self) -> Option<KeyCacheUsage> {
        self.key_cache.as_deref().map(KeyCache::usage)
    }

    /// Returns the status of the lease on the cache. `None` if the cache is disabled.
    pub fn lease(&self) -> Option<LeaseStatus> {
        self.key_cache.as_deref().map(KeyCache::lease_status)
    }

    /// Returns whether the engine holds a lease or needs none. Waits for the first lease, at most `first_within`.
    pub async fn is_leased(&self, first_within: Duration) -> bool {
        let started = Instant::now();
        while let Some(lease) = self.lease() {
            if lease.left > Duration::ZERO {
                return true;
            }
            if lease.age.is_some() || started.elapsed() >= first_within {
                return false;
            }
            tokio::time::sleep(LEASE_POLL_INTERVAL).await;
        }
        true
    }

    /// Returns the number of keys whose last use is not yet written to the database.
    pub fn last_used_waiting(&self) -> usize {
        self.last_used.len()
    }
}
