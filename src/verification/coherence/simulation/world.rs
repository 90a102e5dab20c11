//! Simulated database and network, and the record of violations.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{KEYS, guards::SimulatedGuards};
use crate::{
    domain::{
        api_key::{Environment, KeyDigest},
        clock::UtcTime,
        error::Error,
        id::{ApiKeyId, InstanceId, UserId},
    },
    models::{
        instance::Instance,
        key_change::{Change, Revision},
        key_facts::KeyFacts,
    },
    verification::guard::{Guard, Guards as _},
};

/// Timeout of a call to the database.
pub(super) const TIMEOUT: Duration = Duration::from_millis(300);

/// Parameters of a schedule. Values without a unit are probabilities in percent.
///
/// Each schedule draws its own: schedules with the same parameters would not cover all situations.
pub(super) struct Parameters {
    pub(super) lease: Duration,
    /// Messages that are slow.
    slow: u32,
    /// Calls that are lost.
    lost: u32,
    /// Notifications that are lost.
    lost_notifications: u32,
    /// Maximum time between two faults of a process.
    pub(super) max_fault_interval_millis: u64,
    /// Faults that pause the process.
    pub(super) paused: u32,
    /// Faults that cut the process off from the database.
    pub(super) cut_off: u32,
    /// Faults that end the process.
    pub(super) ended: u32,
    /// Number of changes that are kept for instances that have not read them.
    kept_changes: usize,
}

/// State that all processes share: the database, the network, the random generator, and the record of violations.
pub(super) struct World {
    pub(super) chance: SmallRng,
    pub(super) parameters: Parameters,
    pub(super) revoked: BTreeMap<u8, bool>,
    /// Times at which the revocation of a key responded.
    pub(super) revocation_responded: BTreeMap<u8, Instant>,
    /// Key of the current revocation, or of the last one.
    pub(super) last_revoked_key: u8,
    pub(super) revision: Revision,
    pub(super) changes: Vec<(Revision, Change)>,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) listeners: BTreeMap<InstanceId, mpsc::UnboundedSender<Notification>>,
    /// Times until which a process cannot reach the database.
    pub(super) cut_off_until: BTreeMap<InstanceId, Instant>,
    pub(super) instances_started: u128,
    pub(super) accepted: u64,
    /// Number of times that each key was made valid again.
    pub(super) restorations: BTreeMap<u8, u64>,
    pub(super) revocations: u64,
    pub(super) violation: Option<String>,
}

pub(super) type Shared = Arc<Mutex<World>>;

#[derive(Clone, Copy)]
pub(super) enum Notification {
    Change,
    Ack(InstanceId, i64),
}

pub(super) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut one_of = |choices: [u32; 3]| choices[chance.random_range(0..3)];
        let lease = Duration::from_millis(one_of([400, 400, 2000]).into());
        let parameters = Parameters {
            lease,
            slow: one_of([3, 15, 40]),
            lost: one_of([0, 4, 15]),
            lost_notifications: one_of([0, 15, 70]),
            max_fault_interval_millis: one_of([150, 600, 3000]).into(),
            paused: one_of([0, 20, 40]),
            cut_off: one_of([0, 20, 40]),
            ended: one_of([0, 15, 40]),
            kept_changes: one_of([2, 5, 1000]) as usize,
        };
        Self {
            chance,
            parameters,
            revoked: (0..KEYS).map(|key| (key, false)).collect(),
            revocation_responded: BTreeMap::new(),
            last_revoked_key: 0,
            revision: Revision { number: 0, tag: 0 },
            changes: Vec::new(),
            instances: BTreeMap::new(),
            listeners: BTreeMap::new(),
            cut_off_until: BTreeMap::new(),
            instances_started: 0,
            accepted: 0,
            restorations: BTreeMap::new(),
            revocations: 0,
            violation: None,
        }
    }

    pub(super) fn happens(&mut self, percent: u32) -> bool {
        self.chance.random_ratio(percent, 100)
    }

    /// Returns a random duration of at most `max` milliseconds.
    pub(super) fn millis(&mut self, max: u64) -> Duration {
        Duration::from_millis(self.chance.random_range(0..=max))
    }

    /// Returns a random duration of at most `max` lease periods.
    pub(super) fn leases(&mut self, max: u64) -> Duration {
        self.millis(max * self.parameters.lease.as_millis() as u64)
    }

    /// Returns a random delay of a message.
    pub(super) fn delay(&mut self) -> Duration {
        let max = if !self.happens(self.parameters.slow) {
            3
        } else if self.happens(20) {
            900
        } else {
            60
        };
        self.millis(max)
    }

    /// Returns a random key, most often that of the current or last revocation.
    pub(super) fn any_key(&mut self) -> u8 {
        if self.happens(50) {
            self.last_revoked_key
        } else {
            self.chance.random_range(0..KEYS)
        }
    }

    /// Returns whether this process cannot reach the database.
    pub(super) fn is_cut_off(&self, id: InstanceId) -> bool {
        self.cut_off_until
            .get(&id)
            .is_some_and(|until| *until > Instant::now())
    }

    /// Cuts other processes off or reconnects them at a critical time: shortly before this process makes a change.
    pub(super) fn cut_off_others(&mut self, id: InstanceId) {
        let percent = self.parameters.cut_off;
        for other in self
            .listeners
            .clone()
            .into_keys()
            .filter(|other| *other != id)
        {
            if self.is_cut_off(other) && self.happens(50) {
                self.cut_off_until.remove(&other);
            } else if self.happens(percent) {
                let until = Instant::now() + self.leases(3);
                self.cut_off_until.insert(other, until);
            }
        }
    }

    /// Sends a notification to all listeners. Some do not receive it.
    pub(super) fn notify(&mut self, notification: Notification) {
        for (id, listener) in self.listeners.clone() {
            if self.happens(self.parameters.lost_notifications) || self.is_cut_off(id) {
                continue;
            }
            let delay = self.delay();
            tokio::spawn(async move {
                sleep(delay).await;
                let _ = listener.send(notification);
            });
        }
    }

    /// Commits a revocation, unless the key is already revoked. Returns the revision to wait for.
    pub(super) fn revoke(&mut self, key: u8) -> i64 {
        if self.revoked.insert(key, true) == Some(false) {
            self.publish(key);
        } else if !SimulatedGuards::enforces(Guard::WaitOnRepeat) {
            return -1;
        }
        self.revision.number
    }

    /// Commits that a key is valid, whether or not it was revoked.
    pub(super) fn restore(&mut self, key: u8) {
        self.revocation_responded.remove(&key);
        *self.restorations.entry(key).or_default() += 1;
        self.revoked.insert(key, false);
        self.publish(key);
    }

    fn publish(&mut self, key: u8) {
        self.revision = Revision {
            number: self.revision.number + 1,
            tag: self.chance.random(),
        };
        // A change of the user is equivalent to one of the key, since each user has one key.
        let change = if self.happens(20) {
            Change::User(user(key))
        } else {
            Change::Key(digest(key))
        };
        self.changes.push((self.revision, change));
        self.notify(Notification::Change);
    }

    /// Returns the changes after `base`. `None` if some are not kept.
    pub(super) fn changes_since(&self, base: Revision) -> Option<Vec<Change>> {
        let changes = self
            .changes
            .iter()
            .filter(|(at, _)| at.number > base.number);
        let changes: Vec<_> = changes.map(|(_, change)| *change).collect();
        (changes.len() <= self.parameters.kept_changes).then_some(changes)
    }
}

pub(super) fn digest(key: u8) -> KeyDigest {
    KeyDigest([key; 32])
}

pub(super) fn user(key: u8) -> UserId {
    UserId(Uuid::from_u128(u128::from(key)))
}

pub(super) fn facts(key: u8, revoked: bool) -> KeyFacts {
    KeyFacts {
        id: ApiKeyId(Uuid::from_u128(u128::from(key))),
        user_id: user(key),
        name: None,
        environment: Environment::Live,
        enabled: true,
        scopes: Default::default(),
        expires_at: None,
        revoked_at: revoked.then_some(UtcTime(0)),
        ip_allowlist: Default::default(),
        lineage_id: ApiKeyId(Uuid::from_u128(u128::from(key))),
        limits: Default::default(),
        user_active: true,
    }
}

/// Calls the database. The call may be executed late, or although the caller gets an error, or not at all.
pub(super) async fn call<T: Send + 'static>(
    world: &Shared,
    work: impl FnOnce(&mut World) -> T + Send + 'static,
) -> Result<T, Error> {
    let (request_delay, response_delay, is_lost) = {
        let mut world = lock(world);
        let lost = world.parameters.lost;
        (world.delay(), world.delay(), world.happens(lost))
    };
    let shared = world.clone();
    let call = tokio::spawn(async move {
        sleep(request_delay).await;
        let result = (!is_lost).then(|| work(&mut lock(&shared)));
        sleep(response_delay).await;
        result
    });
    match timeout(TIMEOUT, call).await {
        Ok(Ok(Some(result))) => Ok(result),
        _ => Err(Error::Unavailable("lost".into())),
    }
}
