//! Counts of checks per key, hour and outcome: counted in memory and written in batches, so that no request waits for
//! a write.
//!
//! - A check adds one to an atomic counter of its key.
//! - Periodically the counters are collected into a table of pending counts by key, hour and outcome.
//! - A batch of pending counts is frozen, gets a number, and is written in one transaction that also stores the number.
//! - If the result of a write is unknown, the same batch is written again under the same number. The database knows
//!   whether it already has the batch.
//!
//! So no count is lost or written twice, whatever happens to the database. A process that is killed loses the counts
//! since its last batch. While the database is unreachable, counts wait up to a bound. Beyond it the counts of further
//! keys are lost, which is logged and counted.

mod counters;
mod pending;
mod roll_up;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{sleep, timeout};

pub(super) use self::counters::UsageCounters;
use self::{
    counters::{Hour, HourCounter, Recorded},
    pending::{CountKey, PendingCounts, rows},
};
use super::cached_key::CachedKey;
use crate::{
    config::UsageConfig,
    db::{Conn, Db},
    domain::{
        clock::{Clock, UtcTime},
        error::Error,
        id::InstanceId,
        usage::Outcome,
    },
    models::usage::{
        Count,
        writing::{self, Batch},
    },
};

/// Maximum number of keys that wait for their counters to be collected. They stay in memory meanwhile. The counters of
/// further keys are collected at once.
const MAX_WAITING: usize = 100_000;
/// Number of pending counts that are written in one transaction. Other writers get their turn in between.
const BATCH_SIZE: usize = 5_000;
/// Timeout of the writes on shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Counts of checks. Clones share all state.
#[derive(Clone)]
pub struct Usage {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    clock: Clock,
    /// Counter of checks of unknown keys.
    unknown_keys: HourCounter,
    /// Keys whose counters are to be collected.
    waiting: Mutex<Vec<Arc<CachedKey>>>,
    pending: Mutex<PendingCounts>,
    writer: tokio::sync::Mutex<Writer>,
    /// Number of counts that were collected and are not yet written.
    unwritten: AtomicU64,
    lost: AtomicU64,
}

/// State of the writes to the database.
struct Writer {
    /// Identity of the current or next batch.
    next: Batch,
    /// Batch that is being written. It does not change until the database is known to have it.
    frozen: Option<FrozenBatch>,
}

#[derive(Clone)]
struct FrozenBatch {
    rows: Arc<[Count]>,
    counts: u64,
}

impl Usage {
    pub(super) fn new(db: Db, clock: Clock, config: &UsageConfig) -> Self {
        let next = Batch {
            writer: InstanceId::generate(clock.now()),
            number: 1,
        };
        Self {
            shared: Arc::new(Shared {
                db,
                clock,
                unknown_keys: HourCounter::default(),
                waiting: Mutex::default(),
                pending: Mutex::new(PendingCounts::new(config.max_pending)),
                writer: tokio::sync::Mutex::new(Writer { next, frozen: None }),
                unwritten: AtomicU64::new(0),
                lost: AtomicU64::new(0),
            }),
        }
    }

    /// Counts a check of a key, or of an unknown key.
    pub(super) fn record(&self, key: Option<&Arc<CachedKey>>, outcome: Outcome, now: UtcTime) {
        let hour = Hour::of(now);
        let recorded = match key {
            Some(key) => key.usage().record(outcome, hour),
            None => self.shared.unknown_keys.record(hour),
        };
        match (recorded, key) {
            (Recorded::Counted, _) | (Recorded::First, None) => {}
            (Recorded::First, Some(key)) => self.shared.enqueue(key),
            (Recorded::Replaced(hour, count), _) => {
                let count_key = CountKey {
                    key: key.map(|key| (key.id, key.user_id)),
                    hour,
                    outcome,
                };
                self.shared
                    .add_pending(&mut self.shared.pending(), count_key, count);
            }
        }
    }

    /// Returns the number of counts that were collected and are not yet written.
    pub fn unwritten(&self) -> u64 {
        self.shared.unwritten.load(Ordering::Relaxed)
    }

    /// Returns the number of counts that are not yet written, collected or not. They are lost if the process ends now.
    pub fn left(&self) -> u64 {
        self.shared.collect();
        self.unwritten()
    }

    /// Returns the number of counts that were lost.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes counts and rolls up old ones periodically. Never returns.
    pub(super) async fn run(&self, config: &UsageConfig) {
        tokio::join!(
            self.flush_every(config.flush_interval),
            roll_up::roll_up_every(&self.shared.db, &self.shared.clock, config),
        );
    }

    async fn flush_every(&self, interval: Duration) {
        let mut healthy = true;
        loop {
            sleep(interval).await;
            let flushed = self.flush().await;
            match &flushed {
                Err(error) if healthy => {
                    let cause = error.cause();
                    tracing::warn!(
                        cause,
                        "failed to write usage counts; keeping them and retrying"
                    );
                }
                Ok(()) if !healthy => tracing::info!("wrote the usage counts that were kept"),
                _ => {}
            }
            healthy = flushed.is_ok();
        }
    }

    /// Writes all counts. Counts that could not be written are kept, even if this future is dropped.
    async fn flush(&self) -> Result<(), Error> {
        let shared = &self.shared;
        let mut writer = shared.writer.lock().await;
        let collecting = shared.clone();
        // Collecting the counters of many keys takes too long for an async thread.
        tokio::task::spawn_blocking(move || collecting.collect())
            .await
            .map_err(|_| Error::Internal("the collection of usage counts panicked".into()))?;
        loop {
            let frozen = match &writer.frozen {
                Some(frozen) => frozen.clone(),
                None => match shared.freeze() {
                    Some(frozen) => writer.frozen.insert(frozen).clone(),
                    None => return Ok(()),
                },
            };
            let (batch, now) = (writer.next, shared.clock.now());
            let write =
                move |conn: &mut Conn| Ok(writing::add_once(conn, batch, now, &frozen.rows)?);
            shared.db.write_in_background(write).await?;
            let written = writer.frozen.take().map_or(0, |frozen| frozen.counts);
            shared.unwritten.fetch_sub(written, Ordering::Relaxed);
            writer.next.number += 1;
        }
    }

    /// Writes the remaining counts. Must be called when no check is counted any more. Returns the number of counts that
    /// could not be written.
    pub(super) async fn close(&self) -> u64 {
        let flush = async {
            let mut flushed = self.flush().await;
            while flushed.is_err() {
                sleep(Duration::from_millis(100)).await;
                flushed = self.flush().await;
            }
            let writer = self.shared.writer.lock().await.next.writer;
            let leave = move |conn: &mut Conn| Ok(writing::leave(conn, writer)?);
            // If this fails, the roll-up deletes the row of this writer later.
            let _ = self.shared.db.write(leave).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, flush).await;
        let counts = self.unwritten();
        if counts > 0 {
            self.shared.lost.fetch_add(counts, Ordering::Relaxed);
            tracing::error!(
                counts,
                "failed to write usage counts on shutdown; they are lost"
            );
        }
        counts
    }
}

impl Shared {
    /// Adds a key to those whose counters are to be collected.
    fn enqueue(&self, key: &Arc<CachedKey>) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MAX_WAITING {
            waiting.push(key.clone());
            return;
        }
        drop(waiting);
        self.collect_key(key, &mut self.pending());
    }

    /// Moves the counts of all waiting keys to the pending counts.
    fn collect(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for keys in waiting.chunks(100) {
            // The lock is released after each chunk: checks of keys whose hour has changed wait for it.
            let mut pending = self.pending();
            keys.iter()
                .for_each(|key| self.collect_key(key, &mut pending));
        }
        if let Some((hour, count)) = self.unknown_keys.take() {
            let count_key = CountKey {
                key: None,
                hour,
                outcome: Outcome::NotFound,
            };
            self.add_pending(&mut self.pending(), count_key, count);
        }
    }

    fn collect_key(&self, key: &CachedKey, pending: &mut PendingCounts) {
        key.usage().take(|hour, outcome, count| {
            let count_key = CountKey {
                key: Some((key.id, key.user_id)),
                hour,
                outcome,
            };
            self.add_pending(pending, count_key, count);
        });
    }

    fn add_pending(&self, pending: &mut PendingCounts, count_key: CountKey, count: u64) {
        if pending.add(count_key, count) {
            self.unwritten.fetch_add(count, Ordering::Relaxed);
        } else if self.lost.fetch_add(count, Ordering::Relaxed) == 0 {
            tracing::error!("losing usage counts: too many are waiting to be written");
        }
    }

    fn freeze(&self) -> Option<FrozenBatch> {
        let taken = self.pending().take(BATCH_SIZE);
        (!taken.is_empty()).then(|| FrozenBatch {
            rows: rows(&taken).into(),
            counts: taken.iter().map(|(_, count)| count).sum(),
        })
    }

    fn pending(&self) -> MutexGuard<'_, PendingCounts> {
        lock(&self.pending)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
