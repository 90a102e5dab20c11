//! When keys were last used: noted in memory, written in batches, so that no request waits for a write.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::known_key::KnownKey;
use crate::{
    core::{clock::UtcTime, error::Error, id::ApiKeyId},
    db::{Conn, Db},
    models::api_key,
};

/// Keys that wait to be written, which keeps them in memory. Past it the uses of further ones are not
/// kept: the database must be out of reach for that.
const MAX_WAITING: usize = 200_000;
/// As many ask to be written before their time.
const MANY: usize = MAX_WAITING / 2;
/// But no sooner than this after the last time: to write them costs more than to use them.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// As many are written at once, so that nobody waits for long behind it.
const BATCH: usize = 500;

/// The keys whose last use is not in the database yet.
pub(super) struct LastUsed {
    db: Db,
    waiting: Mutex<Vec<Arc<KnownKey>>>,
    many: Notify,
}

impl LastUsed {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            waiting: Mutex::default(),
            many: Notify::new(),
        }
    }

    /// Notes a use. Only the first one since a key was last written takes the lock.
    pub(super) fn note(&self, key: &Arc<KnownKey>, at: UtcTime) {
        if !key.note_use(at) {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            key.take_use();
            return;
        }
        waiting.push(key.clone());
        if waiting.len() == MANY {
            self.many.notify_one();
        }
    }

    /// Writes what is noted, for ever, every so often and when it is much. What could not be written
    /// is written later.
    pub(super) async fn flush_every(&self, interval: Duration) {
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
            tokio::time::sleep(MIN_INTERVAL.min(interval)).await;
        }
    }

    /// Writes what is noted. What could not be written is noted still, even if nobody waits for the end.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut *self.waiting());
        let mut taken = Taken {
            from: self,
            uses: waiting
                .into_iter()
                .filter_map(|key| Some((key.take_use()?, key)))
                .collect(),
        };
        // The last ones first: what is left stays in place.
        taken.uses.sort_unstable_by_key(|(_, key)| key.id);
        while !taken.uses.is_empty() {
            let rest = taken.uses.len().saturating_sub(BATCH);
            // A key that was forgotten and found again stands there twice.
            let mut batch = BTreeMap::new();
            for (at, key) in &taken.uses[rest..] {
                let latest = batch.entry(key.id).or_insert(*at);
                *latest = (*latest).max(*at);
            }
            let batch: Vec<(ApiKeyId, UtcTime)> = batch.into_iter().collect();
            let write = move |conn: &mut Conn| Ok(api_key::set_last_used(conn, &batch)?);
            self.db.write_in_background(write).await?;
            taken.uses.truncate(rest);
        }
        Ok(())
    }

    /// How many keys wait to be written.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Arc<KnownKey>>> {
        // Nothing panics while holding it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Uses on their way to the database.
struct Taken<'a> {
    from: &'a LastUsed,
    uses: Vec<(UtcTime, Arc<KnownKey>)>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for (at, key) in &self.uses {
            self.from.note(key, *at);
        }
    }
}
