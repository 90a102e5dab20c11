//! Acknowledgements of other instances, and the wait for the missing ones.

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    domain::{
        boot_clock::{BootClock, Tick},
        error::Error,
        id::InstanceId,
    },
    models::instance::Instance,
    telemetry::counters::{Durations, Measured},
    verification::guard::{AllGuards, Guard, Guards},
};

/// Maximum number of instances whose acknowledgements are kept, since instances come and go. Those of the others are
/// read from the database.
const MAX_INSTANCES: usize = 1024;
/// Initial interval of polling the database for acknowledgements whose notification was lost.
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum interval of that polling, and the timeout of one poll.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Revisions that instances have acknowledged, as far as this instance was notified. Clones share all state.
#[derive(Clone)]
pub(super) struct Acks<G = AllGuards> {
    received: watch::Sender<ReceivedAcks>,
    /// Durations from the commit of a change until it was in effect on all instances.
    propagation: Arc<Durations>,
    guards: PhantomData<G>,
}

/// Bounds of the histogram in microseconds: from the time that an embedded database takes to the longest lease with its
/// margin.
const PROPAGATION: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 65_000_000,
];

#[derive(Default)]
struct ReceivedAcks {
    /// Number of acknowledgements received so far.
    count: u64,
    newest: HashMap<InstanceId, Ack>,
}

struct Ack {
    revision: i64,
    /// Sequence number among all received acknowledgements, starting at 1.
    sequence: u64,
}

/// Committed change, and the instances that it waits for.
pub(super) struct PendingChange {
    pub revision: i64,
    /// Time at which the commit was known to have succeeded.
    pub committed: Tick,
    /// Number of acknowledgements received until then. Earlier ones may refer to a history that was lost.
    pub acks_before: u64,
    /// All instances at some time after that, including the one that made the change. If an earlier attempt committed
    /// the change, the instance that repeats it may not have invalidated it yet.
    pub instances: Vec<Instance>,
}

/// Returns the duration of an instance's lease as another clock must measure it. Either clock may be up to 1 % fast or
/// slow.
pub(super) fn safe_lease<G: Guards>(instance: &Instance) -> Duration {
    if G::enforces(Guard::ClockDriftMargin) {
        instance.lease() + instance.lease() / 40
    } else {
        instance.lease()
    }
}

impl<G: Guards> Acks<G> {
    pub(super) fn new() -> Self {
        Self {
            received: watch::Sender::new(ReceivedAcks::default()),
            propagation: Arc::new(Durations::new(PROPAGATION)),
            guards: PhantomData,
        }
    }

    /// Records an acknowledgement.
    pub(super) fn record(&self, id: InstanceId, revision: i64) {
        self.received.send_modify(|received| {
            if received.newest.len() >= MAX_INSTANCES {
                received.newest.clear();
            }
            received.count += 1;
            let sequence = received.count;
            received.newest.insert(id, Ack { revision, sequence });
        });
    }

    /// Returns the number of acknowledgements received so far.
    pub(super) fn received_count(&self) -> u64 {
        self.received.borrow().count
    }

    /// Returns the durations from the commit of a change until it was in effect on all instances.
    pub(super) fn propagation(&self) -> Measured {
        self.propagation.measured()
    }

    /// Waits until no instance uses the state before the change: each has acknowledged it, has left, or its lease has
    /// expired. Returns at the latest when the longest lease has expired.
    pub(super) async fn wait_until_settled(
        &self,
        change: PendingChange,
        boot: BootClock,
        list: impl AsyncFn(Tick) -> Result<Vec<Instance>, Error>,
    ) {
        let PendingChange {
            revision,
            committed,
            acks_before,
            mut instances,
        } = change;
        let mut received = self.received.subscribe();
        let mut poll_interval = FIRST_POLL_INTERVAL;
        loop {
            let now = boot.now();
            {
                let received = received.borrow_and_update();
                instances.retain(|instance| {
                    let ack = received.newest.get(&instance.id);
                    let acked = ack
                        .filter(|ack| ack.sequence > acks_before)
                        .map_or(-1, |ack| ack.revision);
                    acked.max(instance.acked_revision) < revision
                        && now < committed.after(safe_lease::<G>(instance))
                });
            }
            let shortest_lease = instances.iter().map(safe_lease::<G>).min();
            let Some(next_expiry) = shortest_lease.map(|lease| committed.after(lease).since(now))
            else {
                self.propagation.observe(now.since(committed));
                return;
            };
            let wait = boot.timer(poll_interval.min(next_expiry));
            let has_new_ack = timeout(wait, received.changed()).await.is_ok();
            if has_new_ack || next_expiry < poll_interval {
                continue;
            }
            poll_interval = (poll_interval * 2).min(MAX_POLL_INTERVAL);
            if let Ok(Ok(listed)) = timeout(MAX_POLL_INTERVAL, list(boot.now())).await {
                // An instance that was not in the list before started after the change and need not be waited for.
                let is_awaited =
                    |instance: &Instance| instances.iter().any(|awaited| awaited.id == instance.id);
                instances = listed.into_iter().filter(is_awaited).collect();
            }
        }
    }
}
