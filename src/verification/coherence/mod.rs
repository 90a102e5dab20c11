//! Cache coherence: once the request that made a change has its response, no instance accepts what it forbids.
//!
//! Every instance answers from its own cache. Nevertheless all of them reject a revoked key as soon as the revocation
//! has responded. This module states the protocol, the proof that it is safe, and its assumptions.
//!
//! # Protocol
//!
//! - **Change.** The transaction of a change increments the revision of a clock, which is a table with one row. It
//!   also inserts rows with the new revision into `key_changes`. The lock of the clock's row makes revisions commit in
//!   order. So an instance that has read the changes up to a revision has missed none before it.
//! - **Lease.** Each instance has a row in `instances` and renews its lease four times per lease period. A renewal has
//!   four steps:
//!   1. It notes the time.
//!   2. It commits the renewal to its row.
//!   3. It reads the changes since the last revision that it has processed, and invalidates them in its cache.
//!   4. It trusts its cache until one lease period after the time of step 1.
//!
//!   Without a lease an instance queries the database for each request, and neither reads nor fills its cache. If the
//!   database is unreachable, it responds with 503.
//! - **Acknowledgement.** Instances are also notified of changes by `NOTIFY`. On a notification an instance runs
//!   step 3, and acknowledges the revision in its row.
//! - **Response.** After the commit, the process that made the change (the writer) reads the list of instances. It
//!   responds when each of them meets one of three conditions: it has acknowledged the revision; it has left; or a
//!   lease period has passed since the commit. A repeated change that turns out to be already made waits as well,
//!   since the first attempt may not have waited.
//! - **Fill.** A value that was looked up before an invalidation is not inserted into the cache after it
//!   ([`cache`](super::cache)). Nor is it shared with requests that arrive after the invalidation (`lookup.rs`).
//!
//! # Proof of safety
//!
//! Let a change be committed at *c* and its response be sent at *d*. Let a request be sent to some instance after *d*.
//! If that instance trusts its cache, it does so because of a renewal that it started at *t*, less than a lease period
//! ago. There are three cases:
//!
//! 1. The renewal read the changes after *c*. Then it invalidated the change before it trusted the cache.
//! 2. The renewal read the changes before *c*, and the writer found the row of the instance in the list. So the writer
//!    waited for this instance. If it waited for the acknowledgement, the instance had invalidated the change before
//!    that. If it waited for the lease, *d* is more than a lease period after *c*, and *c* is after *t*: the lease has
//!    expired.
//! 3. The renewal read the changes before *c*, and the writer did not find the row. A renewal commits the row before
//!    it reads the changes, so before *c*. The writer reads the list after *c*, so the row had been removed in between.
//!    Either the instance had left, and does not trust its cache. Or another instance had considered it dead, because
//!    it saw no renewal for longer than a lease period: the lease has expired.
//!
//! And by **Fill**, a trusted cache contains no value that is older than an invalidation of its key.
//!
//! # Assumptions
//!
//! - Leases are measured on a clock that nobody sets and that advances while the machine is suspended
//!   ([`boot_clock`](crate::domain::boot_clock)). Times of two machines are never compared, only durations. The rates
//!   of their clocks may each be wrong by up to 1 %. A virtual machine that is paused while its own clock does not
//!   advance violates this. Configure the hypervisor to correct the clocks of its guests when they resume.
//! - Committed data is durable and visible to the next reader. `DATABASE_URL` must lead to the primary, and a failover
//!   must go to a replica that lacks nothing (synchronous replication). After a failover that lost data, instances
//!   detect the loss by the random tags of the revisions at their next renewal, and invalidate their whole cache.
//!
//! Safety depends neither on notifications nor on any wall clock. Without notifications, changes are only slower.
//! `simulation` runs this code through thousands of schedules of delays, losses, pauses and crashes.

mod acks;
mod change;
mod channel;
mod embedded;
mod listener_check;
mod member;
#[cfg(test)]
mod simulation;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Mutex;

use self::{
    acks::Acks,
    change::{Committed, commit_and_wait},
    channel::DbChannel,
    embedded::Embedded,
    member::Member,
};
use super::{guard::Guards, key_cache::KeyCache};
use crate::{
    config::DatabaseConfig,
    db::{Aborted, Claim, Conn, Db},
    domain::{
        boot_clock::{BootClock, Tick},
        clock::Clock,
        error::Error,
        id::InstanceId,
    },
    models::{
        instance::{self, Instance},
        key_change::{self, Changes},
    },
    telemetry::counters::Measured,
};

/// Handle for changes of rows that decisions about keys depend on. Every such change must go through it. Clones share
/// all state.
#[derive(Clone)]
pub struct Coherence {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    database: DatabaseConfig,
    clock: Clock,
    boot: BootClock,
    key_cache: Option<Arc<KeyCache>>,
    acks: Acks,
    /// Last list of instances, and the time before its query. Concurrent changes share one query.
    instances: Mutex<Option<(Tick, Vec<Instance>)>>,
    /// Number of instances.
    instance_count: Arc<AtomicUsize>,
    /// Claim on the database, held for as long as any clone may change something.
    _claim: Option<Claim>,
}

impl Coherence {
    /// Creates a handle for a program that changes rows but verifies no keys, such as a command of the CLI.
    ///
    /// The process that serves an embedded database is not notified of its changes. On such a database, use it only
    /// for changes that no decision about keys depends on.
    pub fn beside(db: Db, database: &DatabaseConfig, clock: Clock) -> Self {
        Self::new(None, db, database, clock, BootClock::default(), None)
    }

    /// Creates the handle of an instance with this cache. `None` if the cache is disabled.
    pub(super) fn new(
        claim: Option<Claim>,
        db: Db,
        database: &DatabaseConfig,
        clock: Clock,
        boot: BootClock,
        key_cache: Option<Arc<KeyCache>>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                db,
                database: database.clone(),
                clock,
                boot,
                key_cache,
                acks: Acks::new(),
                instances: Mutex::default(),
                instance_count: Arc::new(AtomicUsize::new(1)),
                _claim: claim,
            }),
        }
    }

    /// Returns the shared number of instances, for callers that read it often.
    pub(super) fn instance_count(&self) -> Arc<AtomicUsize> {
        self.shared.instance_count.clone()
    }

    /// Returns the number of instances at the time of the last renewal.
    pub fn instances(&self) -> usize {
        self.shared.instance_count.load(Ordering::Relaxed)
    }

    /// Returns the durations from the commit of a change until it was in effect on all instances.
    pub fn propagation(&self) -> Measured {
        self.shared.acks.propagation()
    }

    /// Makes changes in one transaction, and returns when they are in effect on all instances.
    ///
    /// If it fails, the changes may have been committed nevertheless. A repeated call waits again, even if it fails
    /// with [`Error::Conflict`] because an earlier one has already made the changes.
    pub async fn write<T: Send + 'static>(
        &self,
        make: impl FnOnce(&mut Conn, &mut Changes) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let work = move |conn: &mut Conn| shared.commit(conn, make);
        let commit = async || self.shared.db.with_writer(work).await;
        let list = async |as_of| self.shared.list(as_of).await;
        commit_and_wait(commit, list, self.shared.boot, &self.shared.acks).await?
    }

    /// Makes changes that only restrict access, such as a revocation, like [`Coherence::write`]. They succeed even on
    /// a full disk: see [`Db::as_revoking_writer`].
    pub async fn write_revocation<T: Send + 'static>(
        &self,
        make: impl Fn(&mut Conn, &mut Changes) -> Result<T, Aborted> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let work = move |conn: &mut Conn| shared.commit(conn, &make);
        let commit = async || self.shared.db.as_revoking_writer(work).await;
        let list = async |as_of| self.shared.list(as_of).await;
        commit_and_wait(commit, list, self.shared.boot, &self.shared.acks).await?
    }

    /// Renews the lease on the cache of this instance until `stop` completes, then gives it up. If the cache is
    /// disabled, only waits for `stop`.
    pub(super) async fn keep_lease(&self, stop: impl Future<Output = ()>) {
        let Shared {
            database,
            clock,
            boot,
            key_cache,
            acks,
            ..
        } = &*self.shared;
        let Some(key_cache) = key_cache else {
            return stop.await;
        };
        match database.url.postgres() {
            None => {
                let channel = Embedded::new(&self.shared.db, database, key_cache);
                run(Member::new(key_cache, *boot, channel), stop).await;
            }
            Some(_) => {
                // A new id: no other instance has seen it before.
                let id = InstanceId::generate(clock.now());
                let channel = DbChannel::new(database, id, key_cache.lease(), acks.clone());
                let member = Member::new(key_cache, *boot, channel)
                    .with_instance_count(self.instance_count());
                run(member, stop).await;
            }
        }
    }
}

impl Shared {
    fn commit<T>(
        &self,
        conn: &mut Conn,
        make: impl FnOnce(&mut Conn, &mut Changes) -> Result<T, Aborted>,
    ) -> Result<Committed<Result<T, Error>>, Aborted> {
        let mut changes = Changes::default();
        let outcome = conn.write(|conn| {
            let result = make(conn, &mut changes)?;
            Ok((result, key_change::publish(conn, &changes)?))
        });
        // Also after a failure: the transaction may have been committed although its response was lost.
        if let Some(key_cache) = &self.key_cache {
            changes
                .iter()
                .for_each(|change| key_cache.invalidate(change));
        }
        let (result, revision) = match outcome {
            Ok((result, revision)) => (Ok(result), revision),
            Err(Aborted::Rejected(conflict @ Error::Conflict(_))) => (
                Err(conflict),
                key_change::publish(conn, &Changes::default())?,
            ),
            Err(aborted) => return Err(aborted),
        };
        Ok(Committed { result, revision })
    }

    /// Returns the list of instances at `as_of` or later.
    async fn list(&self, as_of: Tick) -> Result<Vec<Instance>, Error> {
        let mut last = self.instances.lock().await;
        if let Some((queried, instances)) = &*last
            && *queried >= as_of
        {
            return Ok(instances.clone());
        }
        let queried = self.boot.now();
        let instances = self.db.read(instance::list).await?;
        *last = Some((queried, instances.clone()));
        Ok(instances)
    }
}

async fn run<G: Guards>(
    mut member: Member<'_, impl channel::Channel, G>,
    stop: impl Future<Output = ()>,
) {
    tokio::select! {
        () = member.run() => {}
        () = stop => {}
    }
    member.leave().await;
}
