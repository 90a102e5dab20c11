//! Once a change has answered, no instance accepts what it forbids.
//!
//! Instances answer from key_cache, and yet a key that was revoked is refused by all of them as soon as
//! the revocation has answered. This is how.
//!
//! # The protocol
//!
//! - **Change.** The transaction that makes a change raises the revision, by one, of a clock of one row,
//!   and adds a row to `key_changes` with it. The clock's lock makes revisions commit in their order, so
//!   whoever has read up to one has missed none before it.
//! - **Lease.** Each instance has a row in `instances` and renews it four times a lease: it (1) notes
//!   the time, (2) commits the renewal, (3) reads what has changed since the revision that it knows, and
//!   forgets it, and (4) trusts its key_cache until a lease after (1). Without a lease it asks the database
//!   for each request, remembers nothing, and answers 503 if that is out of reach.
//! - **Acknowledge.** It is told of changes by `NOTIFY` as well; then it does (3), and acknowledges the
//!   revision in its row.
//! - **Answer.** After its commit, whoever made the change reads who the instances are, and waits until
//!   each of them has acknowledged the revision, has left, or has had its lease run out since the commit.
//!   A change that turns out to be made already waits as well: the first attempt may not have.
//! - **Fill.** What was looked up before something was forgotten is not remembered after it
//!   ([`cache`](super::cache)), nor is it shared with requests that come after it (`lookup.rs`).
//!
//! # Why it is safe
//!
//! Let a change be committed at *c*, answered at *d*, and let a request be sent to some instance after
//! *d*. If that trusts its key_cache, it does so by a renewal that it began at *t* less than a lease ago.
//!
//! 1. The renewal read the changes after *c*: then they were forgotten before key_cache was trusted.
//! 2. It read them before *c*, and the instance's row was there when the changer read the rows. So the
//!    changer waited for it. If for its acknowledgement, the change was forgotten before that. If for its
//!    lease, *d* is more than a lease after *c*, and *c* is after *t*: the lease is over.
//! 3. It read them before *c*, and the row was not there. The row is committed before the changes are
//!    read, so before *c*, and rows are read after *c*: it was removed. Then the instance had left, and
//!    trusts nothing; or it was taken for dead, by somebody who had seen no renewal for longer than the
//!    lease: it is over.
//!
//! And what it trusts is not older than its evictions: by **Fill**.
//!
//! # What it takes for granted
//!
//! - Leases are counted on a clock that nobody sets and that goes on while the machine is suspended
//!   ([`boot_clock`](crate::domain::boot_clock)). Between two machines no times are compared, only
//!   durations, and the rates of their clocks may each be up to 1 % wrong. A virtual machine that is
//!   stopped without its own clock noticing breaks this: let its guests' clocks be set right when they
//!   go on.
//! - What is committed stays, and is there for the next reader: `DATABASE_URL` leads to the primary, and
//!   a failover goes to a replica that lacks nothing (synchronous replication). After one that lost
//!   something, instances notice it by the revisions' random tags at their next renewal, and forget
//!   everything.
//!
//! Notifications, and the time of day of anybody's, play no part in it: without the first it is slower.
//! `simulation` runs this code through thousands of schedules of delays, losses, pauses and crashes.

mod acks;
mod change;
mod channel;
mod embedded;
mod heard;
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
    change::{Committed, carry_out},
    channel::DbChannel,
    embedded::Embedded,
    member::Member,
};
use crate::verification::key_cache::KeyCache;
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

/// The only way to change what verdicts depend on. Clones share everything.
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
    /// Who the instances were, and when that was asked: many who wait ask once.
    listed: Mutex<Option<(Tick, Vec<Instance>)>>,
    /// How many instances there are.
    count: Arc<AtomicUsize>,
    /// Held for as long as anybody may still change something.
    _claim: Option<Claim>,
}

impl Coherence {
    /// For whoever changes something beside the instances, and answers nothing from key_cache. Who serves
    /// an embedded database does not hear of it: there, only for what no verdict depends on.
    pub fn beside(db: Db, database: &DatabaseConfig, clock: Clock) -> Self {
        Self::new(None, db, database, clock, BootClock::default(), None)
    }

    /// For an instance with this key_cache, if it has one.
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
                listed: Mutex::default(),
                count: Arc::new(AtomicUsize::new(1)),
                _claim: claim,
            }),
        }
    }

    /// The same for those who ask often.
    pub(super) fn count(&self) -> Arc<AtomicUsize> {
        self.shared.count.clone()
    }

    /// How many instances there are, as of the last renewal.
    pub fn instances(&self) -> usize {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// How long changes took from their commit until nobody went by what was before.
    pub fn propagation(&self) -> Measured {
        self.shared.acks.propagation()
    }

    /// Makes changes, in one transaction, and answers when no instance goes by what was before.
    ///
    /// If it fails, the changes may have been made all the same. Made again, they wait again, also if
    /// what was made already is why they cannot be made now ([`Error::Conflict`]).
    pub async fn write<T: Send + 'static>(
        &self,
        make: impl FnOnce(&mut Conn, &mut Changes) -> Result<T, Aborted> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let work = move |conn: &mut Conn| shared.commit(conn, make);
        let commit = async || self.shared.db.as_writer(work).await;
        let list = async |as_of| self.shared.list(as_of).await;
        carry_out(commit, list, self.shared.boot, &self.shared.acks).await?
    }

    /// Does what [`Coherence::write`] does for changes that close a door, which a full disk does not stop: see
    /// [`Db::as_closing_writer`].
    pub async fn write_closing<T: Send + 'static>(
        &self,
        make: impl Fn(&mut Conn, &mut Changes) -> Result<T, Aborted> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let work = move |conn: &mut Conn| shared.commit(conn, &make);
        let commit = async || self.shared.db.as_closing_writer(work).await;
        let list = async |as_of| self.shared.list(as_of).await;
        carry_out(commit, list, self.shared.boot, &self.shared.acks).await?
    }

    /// Keeps the lease on this instance's key_cache until `stop`, then gives it up. Without key_cache there
    /// is nothing to keep.
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
                // One that nobody has heard anything of.
                let id = InstanceId::generate(clock.now());
                let channel = DbChannel::new(database, id, key_cache.lease(), acks.clone());
                let member = Member::new(key_cache, *boot, channel).counting(self.count());
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
        let ended = conn.write(|conn| {
            let made = make(conn, &mut changes)?;
            Ok((made, key_change::publish(conn, &changes)?))
        });
        // However it ended: a commit that nobody heard of is one.
        if let Some(key_cache) = &self.key_cache {
            changes
                .iter()
                .for_each(|change| key_cache.invalidate(change));
        }
        let (made, revision) = match ended {
            Ok((made, revision)) => (Ok(made), revision),
            Err(Aborted::Refused(conflict @ Error::Conflict(_))) => (
                Err(conflict),
                key_change::publish(conn, &Changes::default())?,
            ),
            Err(aborted) => return Err(aborted),
        };
        Ok(Committed { made, revision })
    }

    async fn list(&self, as_of: Tick) -> Result<Vec<Instance>, Error> {
        let mut listed = self.listed.lock().await;
        if let Some((asked, instances)) = &*listed
            && *asked >= as_of
        {
            return Ok(instances.clone());
        }
        let asked = self.boot.now();
        let instances = self.db.read(instance::list).await?;
        *listed = Some((asked, instances.clone()));
        Ok(instances)
    }
}

async fn run(mut member: Member<'_, impl channel::Channel>, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = member.run() => {}
        () = stop => {}
    }
    member.leave().await;
}
