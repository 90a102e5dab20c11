//! When keys were last used: noted in memory, written in batches, so that no request waits for a write.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    core::{clock::UtcTime, error::Error, id::ApiKeyId},
    db::{Conn, Db},
    models::api_key,
};

/// Keys that are noted at once, which takes some 50 MB. Past it further ones are not noted until some
/// were written: the database must be out of reach for that.
const MAX_NOTED: usize = 1_000_000;
/// As many ask to be written at once.
const MANY: usize = 10_000;
/// As many are written at once, so that nobody waits for long behind it.
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

    /// Writes what is noted. What could not be written is noted still, even if nobody waits for the end.
    pub async fn flush(&self) -> Result<(), Error> {
        let mut taken = Taken {
            from: self,
            uses: Vec::new(),
        };
        for shard in &self.shards {
            taken.uses.extend(std::mem::take(&mut *lock(shard)));
        }
        // The last ones first: what is left stays in place.
        taken.uses.sort_unstable_by_key(|(id, _)| *id);
        while !taken.uses.is_empty() {
            let rest = taken.uses.len().saturating_sub(BATCH);
            let batch = taken.uses[rest..].to_vec();
            let write = move |conn: &mut Conn| Ok(api_key::set_last_used(conn, &batch)?);
            self.db.write(write).await?;
            taken.uses.truncate(rest);
        }
        Ok(())
    }

    /// By the id's last bits, which are random.
    fn shard(&self, id: ApiKeyId) -> MutexGuard<'_, HashMap<ApiKeyId, UtcTime>> {
        let [.., last] = *id.0.as_bytes();
        lock(&self.shards[usize::from(last) % SHARDS])
    }
}

/// Uses on their way to the database.
struct Taken<'a> {
    from: &'a LastUsed,
    uses: Vec<(ApiKeyId, UtcTime)>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for (id, at) in &self.uses {
            self.from.note(*id, *at);
        }
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding it.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
