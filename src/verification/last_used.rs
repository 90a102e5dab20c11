//! When keys were last used: noted in memory, written in batches, so that no request waits for a write.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    core::{clock::UtcTime, error::Error, id::ApiKeyId},
    db::Db,
    models::api_key,
};

/// Keys that are noted at once. Past it further ones are not noted until some were written: 64 bytes
/// or so for each, while the database is out of reach for long.
const MAX_NOTED: usize = 1_000_000;
/// As many ask to be written at once.
const MANY: usize = 10_000;
/// As many are written in one transaction, so that nobody waits for long behind it.
const BATCH: usize = 500;
/// So that threads rarely wait for one another.
const SHARDS: usize = 16;

/// The last use of each key that is not in the database yet.
pub struct LastUsed {
    db: Db,
    shards: [Mutex<HashMap<ApiKeyId, UtcTime>>; SHARDS],
    many: Notify,
}

impl LastUsed {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            shards: Default::default(),
            many: Notify::new(),
        }
    }

    /// Notes a use.
    pub(super) fn note(&self, id: ApiKeyId, at: UtcTime) {
        let mut noted = self.shard(id);
        let length = noted.len();
        match noted.entry(id) {
            Entry::Occupied(mut entry) => {
                let latest = at.max(*entry.get());
                entry.insert(latest);
            }
            Entry::Vacant(entry) if length < MAX_NOTED / SHARDS => {
                entry.insert(at);
                if length + 1 == MANY / SHARDS {
                    self.many.notify_one();
                }
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Writes what is noted, for ever, every so often and when it is much. What could not be written
    /// is written later.
    pub async fn flush_every(&self, interval: Duration) {
        let mut well = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                // While the database is out of reach, no more often.
                () = self.many.notified(), if well => {}
            }
            let flushed = self.flush().await;
            if let (Err(error), true) = (&flushed, well) {
                let cause = error.cause();
                tracing::warn!(cause, "cannot write when keys were last used; trying again");
            }
            well = flushed.is_ok();
        }
    }

    /// Writes what is noted.
    pub async fn flush(&self) -> Result<(), Error> {
        let mut uses = Vec::new();
        for shard in &self.shards {
            uses.extend(std::mem::take(&mut *lock(shard)));
        }
        // In one order, whoever writes: instances that write the same keys must not wait for one
        // another in a circle.
        uses.sort_unstable_by_key(|(id, _)| *id);
        let mut written = 0;
        for batch in uses.chunks(BATCH) {
            let rows = batch.to_vec();
            let write = self.db.write(move |conn| {
                for (id, at) in rows {
                    api_key::set_last_used(conn, id, at)?;
                }
                Ok(())
            });
            if let Err(error) = write.await {
                for (id, at) in &uses[written..] {
                    self.note(*id, *at);
                }
                return Err(error);
            }
            written += batch.len();
        }
        Ok(())
    }

    /// By the id's last bits, which are random.
    fn shard(&self, id: ApiKeyId) -> MutexGuard<'_, HashMap<ApiKeyId, UtcTime>> {
        let [.., last] = *id.0.as_bytes();
        lock(&self.shards[usize::from(last) % SHARDS])
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding it.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
