//! Background task of an instance: renews its lease and invalidates changed keys.

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
        guard::{AllGuards, Guard, Guards},
        key_cache::KeyCache,
    },
};

/// Number of renewals per lease period. Some may fail before the lease expires.
const RENEWALS_PER_LEASE: u32 = 4;
/// Maximum delay before a retry after a failure.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(250);

/// Instance that may answer from its cache.
pub(super) struct Member<'a, C, G = AllGuards> {
    key_cache: &'a KeyCache<G>,
    boot: BootClock,
    channel: C,
    /// Revision up to which all changes are invalidated in the cache. `None` until the first one was read.
    invalidated: Option<Revision>,
    /// Revision that the other instances consider acknowledged by this one.
    acked: i64,
    renewals: i64,
    /// Number of each instance's latest renewal, and the time at which this instance first saw it.
    last_renewals: HashMap<InstanceId, (i64, Tick)>,
    /// Number of instances, shared with readers.
    instance_count: Arc<AtomicUsize>,
}

/// Returns whether it is cheaper to clear the cache than to apply the changes one by one. Each changed user requires a
/// scan of the whole cache.
fn is_clearing_cheaper(changes: &[Change]) -> bool {
    let users = changes
        .iter()
        .filter(|change| matches!(change, Change::User(_)));
    users.count() > 20
}

impl<'a, C: Channel, G: Guards> Member<'a, C, G> {
    pub(super) fn new(key_cache: &'a KeyCache<G>, boot: BootClock, channel: C) -> Self {
        Self {
            key_cache,
            boot,
            channel,
            invalidated: None,
            acked: -1,
            renewals: 0,
            last_renewals: HashMap::new(),
            instance_count: Arc::default(),
        }
    }

    /// Makes this member store the number of instances in `instance_count` at each renewal.
    pub(super) fn with_instance_count(self, instance_count: Arc<AtomicUsize>) -> Self {
        Self {
            instance_count,
            ..self
        }
    }

    /// Renews the lease and invalidates changed keys. Retries after failures. Never returns.
    pub(super) async fn run(&mut self) {
        let mut healthy = true;
        loop {
            let Err(error) = self.run_until_failure(&mut healthy).await;
            if healthy {
                let cause = error.cause();
                tracing::warn!(
                    cause,
                    "failed to renew the lease on the key cache; retrying"
                );
            }
            healthy = false;
            sleep(MAX_RETRY_DELAY.min(self.key_cache.lease() / RENEWALS_PER_LEASE)).await;
        }
    }

    /// Gives up the lease and removes this instance, so that no change waits for it.
    pub(super) async fn leave(&mut self) {
        if G::enforces(Guard::DistrustBeforeLeaving) {
            self.key_cache.distrust();
        }
        if let Err(error) = self.channel.leave().await {
            let cause = error.cause();
            tracing::warn!(
                cause,
                "failed to remove this instance on shutdown; changes wait until its lease expires"
            );
        }
        self.key_cache.distrust();
    }

    async fn run_until_failure(
        &mut self,
        healthy: &mut bool,
    ) -> Result<std::convert::Infallible, Error> {
        loop {
            self.renew().await?;
            if !*healthy {
                tracing::info!("renewed the lease on the key cache");
            }
            *healthy = true;
            self.remove_dead().await?;
            let next = Instant::now() + self.key_cache.lease() / RENEWALS_PER_LEASE;
            // The time is checked first: a stream of changes must not delay the next renewal.
            while Instant::now() < next && timeout_at(next, self.channel.notified()).await.is_ok() {
                self.catch_up().await?;
            }
        }
    }

    pub(super) async fn renew(&mut self) -> Result<(), Error> {
        let started = self.boot.now();
        if !G::enforces(Guard::CatchUpAfterRenewal) {
            self.catch_up().await?;
        }
        self.renewals += 1;
        self.acked = self.channel.renew(self.renewals).await?;
        if !G::enforces(Guard::TrustAfterCatchUp) {
            self.key_cache
                .trust_until(started.after(self.key_cache.lease()));
        }
        if G::enforces(Guard::CatchUpAfterRenewal) {
            self.catch_up().await?;
        }
        let from = if G::enforces(Guard::LeaseFromStartOfRenewal) {
            started
        } else {
            self.boot.now()
        };
        self.key_cache
            .trust_until(from.after(self.key_cache.lease()));
        Ok(())
    }

    /// Invalidates the changes since the last call, and acknowledges them.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let since = self.channel.changes_since(self.invalidated).await?;
        if !G::enforces(Guard::InvalidateBeforeAck) {
            self.channel.acknowledge(since.revision).await?;
        }
        match &since.changes {
            Some(changes) if !is_clearing_cheaper(changes) => {
                changes
                    .iter()
                    .for_each(|change| self.key_cache.invalidate(change));
            }
            Some(_) => self.key_cache.invalidate_all(),
            None if G::enforces(Guard::InvalidateAllOnGap) => self.key_cache.invalidate_all(),
            None => {}
        }
        self.invalidated = Some(since.revision);
        if self.acked != since.revision.number {
            self.channel.acknowledge(since.revision).await?;
            self.acked = since.revision.number;
        }
        Ok(())
    }

    /// Removes instances that have not renewed for longer than their lease. The time is measured on the clock of this
    /// instance, from when it first saw their latest renewal. So no wall clock is involved.
    async fn remove_dead(&mut self) -> Result<(), Error> {
        let instances = self.channel.instances().await?;
        self.instance_count
            .store(instances.len().max(1), Ordering::Relaxed);
        let now = self.boot.now();
        self.last_renewals
            .retain(|id, _| instances.iter().any(|instance| instance.id == *id));
        for instance in instances {
            let last = self
                .last_renewals
                .entry(instance.id)
                .or_insert((instance.renewals, now));
            if last.0 != instance.renewals {
                *last = (instance.renewals, now);
            }
            if now.since(last.1) > safe_lease::<G>(&instance)
                || !G::enforces(Guard::RemoveDeadAfterLease)
            {
                self.channel.remove_dead(instance).await?;
            }
        }
        Ok(())
    }
}
