//! What was done with keys: counted in memory, written in batches, so that no request waits for a write.
//!
//! A check adds one to a word that belongs to its key, and is done. Once in a while the words are emptied
//! into a table of what waits to be written, by key, hour and outcome, and a batch of it is frozen, given
//! a number, and written in one transaction that also notes the number. A batch whose end nobody heard of is
//! written again as it was, under its number: the database knows whether it has it. So no count is lost and
//! none is written twice, whatever happens to the database; of a process that is killed those are lost that
//! came since the last batch. While the database is out of reach counts wait, up to a bound; past it those
//! of further keys are lost, which is logged and counted.

mod pending;
mod roll_up;
mod tally;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};

pub(super) use self::tally::Tally;
use self::{
    pending::{Pending, Place, rows},
    tally::{Hour, Noted, Word},
};
use super::known_key::KnownKey;
use crate::{
    core::{
        clock::{Clock, UtcTime},
        config::UsageConfig,
        error::Error,
        id::InstanceId,
        usage::Outcome,
    },
    db::{Conn, Db},
    models::usage::{
        Count,
        writing::{self, Batch},
    },
};

/// Keys that wait for their counts to be collected, which keeps them in memory. Past it they are
/// collected at once.
const MAX_WAITING: usize = 100_000;
/// Places that are written in one transaction: others write in between.
const BATCH: usize = 5_000;
/// How long it is tried to write the last counts.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What is counted. Clones share it.
#[derive(Clone)]
pub struct Usage {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    clock: Clock,
    unknown: Word,
    waiting: Mutex<Vec<Arc<KnownKey>>>,
    pending: Mutex<Pending>,
    writer: tokio::sync::Mutex<Writer>,
    unwritten: AtomicU64,
    lost: AtomicU64,
}

/// Who writes.
struct Writer {
    next: Batch,
    /// What is being written: as it was, until it is known that the database has it.
    frozen: Option<Frozen>,
}

#[derive(Clone)]
struct Frozen {
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
                unknown: Word::default(),
                waiting: Mutex::default(),
                pending: Mutex::new(Pending::new(config.max_pending)),
                writer: tokio::sync::Mutex::new(Writer { next, frozen: None }),
                unwritten: AtomicU64::new(0),
                lost: AtomicU64::new(0),
            }),
        }
    }

    /// Counts a check of a key, or of what is none.
    pub(super) fn note(&self, key: Option<&Arc<KnownKey>>, outcome: Outcome, now: UtcTime) {
        let hour = Hour::of(now);
        let noted = match key {
            Some(key) => key.tally().note(outcome, hour),
            None => self.shared.unknown.note(hour),
        };
        match (noted, key) {
            (Noted::Counted, _) | (Noted::First, None) => {}
            (Noted::First, Some(key)) => self.shared.wait(key),
            (Noted::Instead(hour, count), _) => {
                let place = Place {
                    key: key.map(|key| (key.id, key.user_id)),
                    hour,
                    outcome,
                };
                self.shared.keep(&mut self.shared.pending(), place, count);
            }
        }
    }

    /// How many counts were collected and are not written yet.
    pub fn unwritten(&self) -> u64 {
        self.shared.unwritten.load(Ordering::Relaxed)
    }

    /// The number of counts that are not written, collected or not: what is lost if the process ends now.
    pub fn left(&self) -> u64 {
        self.shared.collect();
        self.unwritten()
    }

    /// How many counts were lost.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes what is counted every so often, and rolls up what is old, for ever.
    pub(super) async fn keep(&self, config: &UsageConfig) {
        tokio::join!(
            self.flush_every(config.flush_interval),
            roll_up::roll_up_every(&self.shared.db, &self.shared.clock, config),
        );
    }

    async fn flush_every(&self, interval: Duration) {
        let mut well = true;
        loop {
            sleep(interval).await;
            let flushed = self.flush().await;
            match &flushed {
                Err(error) if well => {
                    let cause = error.cause();
                    tracing::warn!(cause, "cannot write usage; keeping it, and trying again");
                }
                Ok(()) if !well => tracing::info!("wrote the usage that was kept"),
                _ => {}
            }
            well = flushed.is_ok();
        }
    }

    /// Writes what is counted. What could not be written is kept, even if nobody waits for the end.
    async fn flush(&self) -> Result<(), Error> {
        let shared = &self.shared;
        let mut writer = shared.writer.lock().await;
        let collecting = shared.clone();
        // Of many keys it takes its time.
        tokio::task::spawn_blocking(move || collecting.collect())
            .await
            .map_err(|_| Error::Internal("collecting usage panicked".into()))?;
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

    /// Writes the rest, once nobody counts any more. Says how many counts could not be written.
    pub(super) async fn close(&self) -> u64 {
        let flush = async {
            let mut flushed = self.flush().await;
            while flushed.is_err() {
                sleep(Duration::from_millis(100)).await;
                flushed = self.flush().await;
            }
            let writer = self.shared.writer.lock().await.next.writer;
            let leave = move |conn: &mut Conn| Ok(writing::leave(conn, writer)?);
            // Who has not said so is forgotten in time.
            let _ = self.shared.db.write(leave).await;
        };
        let _ = timeout(CLOSE_WITHIN, flush).await;
        let counts = self.unwritten();
        if counts > 0 {
            self.shared.lost.fetch_add(counts, Ordering::Relaxed);
            tracing::error!(counts, "lost usage: it could not be written");
        }
        counts
    }
}

impl Shared {
    fn wait(&self, key: &Arc<KnownKey>) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MAX_WAITING {
            waiting.push(key.clone());
            return;
        }
        drop(waiting);
        self.collect_of(key, &mut self.pending());
    }

    fn collect(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for keys in waiting.chunks(100) {
            // Requests may wait for it, of which the hour has turned.
            let mut pending = self.pending();
            keys.iter()
                .for_each(|key| self.collect_of(key, &mut pending));
        }
        if let Some((hour, count)) = self.unknown.take() {
            let place = Place {
                key: None,
                hour,
                outcome: Outcome::NotFound,
            };
            self.keep(&mut self.pending(), place, count);
        }
    }

    fn collect_of(&self, key: &KnownKey, pending: &mut Pending) {
        key.tally().take(|hour, outcome, count| {
            let place = Place {
                key: Some((key.id, key.user_id)),
                hour,
                outcome,
            };
            self.keep(pending, place, count);
        });
    }

    fn keep(&self, pending: &mut Pending, place: Place, count: u64) {
        if pending.add(place, count) {
            self.unwritten.fetch_add(count, Ordering::Relaxed);
        } else if self.lost.fetch_add(count, Ordering::Relaxed) == 0 {
            tracing::error!("losing usage: too much of it waits to be written");
        }
    }

    fn freeze(&self) -> Option<Frozen> {
        let taken = self.pending().take(BATCH);
        (!taken.is_empty()).then(|| Frozen {
            rows: rows(&taken).into(),
            counts: taken.iter().map(|(_, count)| count).sum(),
        })
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }
}

/// Nothing panics while holding one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
