//! What an instance does all the time to be allowed to trust its key_cache.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use super::{acks::safe_lease, channel::Channel};
use crate::{
    domain::{
        boot_clock::{BootClock, Tick},
        error::Error,
        id::InstanceId,
    },
    models::key_change::{Change, Revision},
    verification::{
        guard::{Guard, holds},
        key_cache::KeyCache,
    },
};

/// Renewals in a lease: some may fail before it ends.
const RENEWALS: u32 = 4;
/// How long after a failure it is tried again, at most.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// An instance that may answer from key_cache.
pub(super) struct Member<'a, C> {
    key_cache: &'a KeyCache,
    boot: BootClock,
    channel: C,
    /// Everything up to here that was changed is forgotten. `None` at first: nobody knows what was.
    known: Option<Revision>,
    /// What the others take as acknowledged.
    acked: i64,
    renewals: i64,
    /// How many renewals each instance had when that was first seen, and when it was.
    seen: HashMap<InstanceId, (i64, Tick)>,
    /// How many there are.
    count: Arc<AtomicUsize>,
}

/// For each user the whole key_cache is gone through: for some that is more work than to fill it anew.
fn are_many(changes: &[Change]) -> bool {
    let users = changes
        .iter()
        .filter(|change| matches!(change, Change::User(_)));
    users.count() > 20
}

impl<'a, C: Channel> Member<'a, C> {
    pub(super) fn new(key_cache: &'a KeyCache, boot: BootClock, channel: C) -> Self {
        Self {
            key_cache,
            boot,
            channel,
            known: None,
            acked: -1,
            renewals: 0,
            seen: HashMap::new(),
            count: Arc::default(),
        }
    }

    /// Keeps this the number of instances that there are.
    pub(super) fn counting(self, count: Arc<AtomicUsize>) -> Self {
        Self { count, ..self }
    }

    /// Renews the lease and forgets what changes, for ever.
    pub(super) async fn run(&mut self) {
        let mut well = true;
        loop {
            let Err(error) = self.follow(&mut well).await;
            if well {
                let cause = error.cause();
                tracing::warn!(
                    cause,
                    "cannot renew the lease on what is remembered; trying again"
                );
            }
            well = false;
            sleep(RETRY_AFTER.min(self.key_cache.lease() / RENEWALS)).await;
        }
    }

    /// Stops trusting what is remembered, and says so: nobody has to wait for this instance.
    pub(super) async fn leave(&mut self) {
        if holds(Guard::LeaveDistrusts) {
            self.key_cache.distrust();
        }
        if let Err(error) = self.channel.leave().await {
            let cause = error.cause();
            tracing::warn!(
                cause,
                "cannot say that this instance leaves: changes wait for its lease"
            );
        }
        self.key_cache.distrust();
    }

    async fn follow(&mut self, well: &mut bool) -> Result<std::convert::Infallible, Error> {
        loop {
            self.renew().await?;
            if !*well {
                tracing::info!("renewed the lease on what is remembered");
            }
            *well = true;
            self.remove_dead().await?;
            let next = Instant::now() + self.key_cache.lease() / RENEWALS;
            // However many changes there are.
            while Instant::now() < next && timeout_at(next, self.channel.notified()).await.is_ok() {
                self.catch_up().await?;
            }
        }
    }

    pub(super) async fn renew(&mut self) -> Result<(), Error> {
        let asked = self.boot.now();
        if !holds(Guard::NewsAfterRenewal) {
            self.catch_up().await?;
        }
        self.renewals += 1;
        self.acked = self.channel.renew(self.renewals).await?;
        if !holds(Guard::TrustAfterNews) {
            self.key_cache
                .trust_until(asked.after(self.key_cache.lease()));
        }
        if holds(Guard::NewsAfterRenewal) {
            self.catch_up().await?;
        }
        let from = match holds(Guard::LeaseFromAsking) {
            true => asked,
            false => self.boot.now(),
        };
        self.key_cache
            .trust_until(from.after(self.key_cache.lease()));
        Ok(())
    }

    /// Forgets what was changed since the last time, and acknowledges it.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let news = self.channel.news(self.known).await?;
        if !holds(Guard::ForgetBeforeAck) {
            self.channel.acknowledge(news.revision).await?;
        }
        match &news.changes {
            Some(changes) if !are_many(changes) => {
                changes
                    .iter()
                    .for_each(|change| self.key_cache.invalidate(change));
            }
            Some(_) => self.key_cache.invalidate_all(),
            None if holds(Guard::ForgetUnknown) => self.key_cache.invalidate_all(),
            None => {}
        }
        self.known = Some(news.revision);
        if self.acked != news.revision.number {
            self.channel.acknowledge(news.revision).await?;
            self.acked = news.revision.number;
        }
        Ok(())
    }

    /// Removes instances that have not renewed for longer than their lease, counted on this one's own
    /// clock from when it first saw their last renewal: so nobody's time of day plays a part.
    async fn remove_dead(&mut self) -> Result<(), Error> {
        let instances = self.channel.instances().await?;
        self.count.store(instances.len().max(1), Ordering::Relaxed);
        let now = self.boot.now();
        self.seen
            .retain(|id, _| instances.iter().any(|one| one.id == *id));
        for instance in instances {
            let seen = self
                .seen
                .entry(instance.id)
                .or_insert((instance.renewals, now));
            if seen.0 != instance.renewals {
                *seen = (instance.renewals, now);
            }
            if now.since(seen.1) > safe_lease(&instance) || !holds(Guard::DeadAfterLease) {
                self.channel.remove_dead(instance).await?;
            }
        }
        Ok(())
    }
}
