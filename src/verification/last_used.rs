//! Times of last use of keys: recorded in memory and written in batches, so that no request waits for a write.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::cached_key::CachedKey;
use crate::{
    db::{Conn, Db},
    domain::{clock::UtcTime, error::Error, id::ApiKeyId},
    models::api_key,
};

/// Maximum number of keys that wait to be written. They stay in memory meanwhile. Uses of further keys are dropped,
/// which happens only while the database is unreachable.
const MAX_WAITING: usize = 200_000;
/// Number of waiting keys that triggers a write before the interval has passed.
const FLUSH_THRESHOLD: usize = MAX_WAITING / 2;
/// Minimum time between two writes. A write costs more than the uses that it records.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Number of keys in one transaction. Small transactions keep other writers from waiting long.
const BATCH_SIZE: usize = 500;

/// Keys whose last use is not yet in the database.
pub(super) struct LastUsed {
    db: Db,
    waiting: Mutex<Vec<Arc<CachedKey>>>,
    threshold_reached: Notify,
}

impl LastUsed {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            waiting: Mutex::default(),
            threshold_reached: Notify::new(),
        }
    }

    /// Records a use. Only the first use since the key was last written takes the lock.
    pub(super) fn record(&self, key: &Arc<CachedKey>, at: UtcTime) {
        if !key.record_use(at) {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            key.take_last_used();
            return;
        }
        waiting.push(key.clone());
        if waiting.len() == FLUSH_THRESHOLD {
            self.threshold_reached.notify_one();
        }
    }

    /// Writes the recorded uses at each interval, and when many are waiting. Retries after failures. Never returns.
    pub(super) async fn flush_every(&self, interval: Duration) {
        let mut healthy = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                // While the database is unreachable, only the interval triggers a write.
                () = self.threshold_reached.notified(), if healthy => {}
            }
            let flushed = self.flush().await;
            if let (Err(error), true) = (&flushed, healthy) {
                let cause = error.cause();
                tracing::warn!(cause, "failed to write last_used timestamps; retrying");
            }
            healthy = flushed.is_ok();
            tokio::time::sleep(MIN_INTERVAL.min(interval)).await;
        }
    }

    /// Writes the recorded uses. Uses that were not written stay recorded, even if this future is dropped.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut *self.waiting());
        let mut unwritten = UnwrittenUses {
            last_used: self,
            uses: waiting
                .into_iter()
                .filter_map(|key| Some((key.take_last_used()?, key)))
                .collect(),
        };
        // Batches are taken from the end: the remaining uses need not be moved.
        unwritten.uses.sort_unstable_by_key(|(_, key)| key.id);
        while !unwritten.uses.is_empty() {
            let rest = unwritten.uses.len().saturating_sub(BATCH_SIZE);
            // A key that was evicted and loaded again may occur twice.
            let mut batch = BTreeMap::new();
            for (at, key) in &unwritten.uses[rest..] {
                let latest = batch.entry(key.id).or_insert(*at);
                *latest = (*latest).max(*at);
            }
            let batch: Vec<(ApiKeyId, UtcTime)> = batch.into_iter().collect();
            let write = move |conn: &mut Conn| Ok(api_key::set_last_used(conn, &batch)?);
            self.db.write_in_background(write).await?;
            unwritten.uses.truncate(rest);
        }
        Ok(())
    }

    /// Returns the number of keys that wait to be written.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Arc<CachedKey>>> {
        self.waiting.lock()
    }
}

/// Uses that are being written. Dropping it records the unwritten ones again.
struct UnwrittenUses<'a> {
    last_used: &'a LastUsed,
    uses: Vec<(UtcTime, Arc<CachedKey>)>,
}

impl Drop for UnwrittenUses<'_> {
    fn drop(&mut self) {
        for (at, key) in &self.uses {
            self.last_used.record(key, *at);
        }
    }
}
