//! Who has acknowledged what, and the wait for those who have not.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    domain::{
        boot_clock::{BootClock, Tick},
        error::Error,
        id::InstanceId,
    },
    models::instance::Instance,
    telemetry::counters::{Durations, Measured},
    verification::guard::{Guard, holds},
};

/// Instances come and go; as many are remembered. Who is forgotten is read again.
const MAX_INSTANCES: usize = 1024;
/// Acknowledgements that were not told are looked for, at first soon, then less often.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// The revisions that instances have acknowledged, as far as this one was told. Clones share them.
#[derive(Clone)]
pub(super) struct Acks {
    told: watch::Sender<Told>,
    /// From commits until nobody went by what was before.
    propagation: Arc<Durations>,
}

/// Microseconds: from what an embedded database takes to the longest lease and its margin.
const PROPAGATION: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 65_000_000,
];

#[derive(Default)]
struct Told {
    /// How often something was told.
    times: u64,
    newest: HashMap<InstanceId, Ack>,
}

struct Ack {
    revision: i64,
    /// The how manieth it is of all.
    time: u64,
}

/// A change that is committed, and for whom it waits.
pub(super) struct Pending {
    pub revision: i64,
    /// When it was known to be committed.
    pub committed: Tick,
    /// How often something had been told then. What was told before may be of a history that was lost.
    pub told: u64,
    /// Everybody as of a moment after that. Also who made the change: what it has forgotten itself was
    /// not the change, if that was made by an attempt before.
    pub instances: Vec<Instance>,
}

/// A lease as another clock than its holder's has to count it: either may be up to 1 % fast or slow.
pub(super) fn safe_lease(instance: &Instance) -> Duration {
    match holds(Guard::DriftMargin) {
        true => instance.lease() + instance.lease() / 40,
        false => instance.lease(),
    }
}

impl Acks {
    pub(super) fn new() -> Self {
        Self {
            told: watch::Sender::new(Told::default()),
            propagation: Arc::new(Durations::new(PROPAGATION)),
        }
    }

    /// Notes what an instance says.
    pub(super) fn note(&self, id: InstanceId, revision: i64) {
        self.told.send_modify(|told| {
            if told.newest.len() >= MAX_INSTANCES {
                told.newest.clear();
            }
            told.times += 1;
            let time = told.times;
            told.newest.insert(id, Ack { revision, time });
        });
    }

    /// How often something was told by now.
    pub(super) fn told(&self) -> u64 {
        self.told.borrow().times
    }

    /// How long that took, of all changes so far.
    pub(super) fn propagation(&self) -> Measured {
        self.propagation.measured()
    }

    /// Waits until nobody answers any more from before the change: every instance has acknowledged it,
    /// has left, or its lease is over. It ends when the longest lease has, whatever happens.
    pub(super) async fn settled(
        &self,
        pending: Pending,
        boot: BootClock,
        list: impl AsyncFn(Tick) -> Result<Vec<Instance>, Error>,
    ) {
        let Pending {
            revision,
            committed,
            told: before,
            mut instances,
        } = pending;
        let mut told = self.told.subscribe();
        let mut look_after = FIRST_LOOK;
        loop {
            let now = boot.now();
            {
                let told = told.borrow_and_update();
                instances.retain(|instance| {
                    let ack = told.newest.get(&instance.id);
                    let acked = ack
                        .filter(|ack| ack.time > before)
                        .map_or(-1, |ack| ack.revision);
                    acked.max(instance.acked_revision) < revision
                        && now < committed.after(safe_lease(instance))
                });
            }
            let over = instances.iter().map(safe_lease).min();
            let Some(over) = over.map(|lease| committed.after(lease).since(now)) else {
                self.propagation.observe(now.since(committed));
                return;
            };
            let wait = boot.timer(look_after.min(over));
            let is_told = timeout(wait, told.changed()).await.is_ok();
            if is_told || over < look_after {
                continue;
            }
            look_after = (look_after * 2).min(LAST_LOOK);
            if let Ok(Ok(listed)) = timeout(LAST_LOOK, list(boot.now())).await {
                // Who has come since has come after the change.
                instances = listed
                    .into_iter()
                    .filter(|one| instances.iter().any(|waited_for| waited_for.id == one.id))
                    .collect();
            }
        }
    }
}
