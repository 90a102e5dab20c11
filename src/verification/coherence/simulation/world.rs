//! The database and the network that are made up, and who keeps the score.

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

use super::KEYS;
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
    verification::guard::{Guard, holds},
};

/// How long a call waits for the database.
pub(super) const TIMEOUT: Duration = Duration::from_millis(300);

/// What a schedule is like, in percent where nothing else is said. Schedules of one kind alone would
/// leave others untried.
pub(super) struct Mood {
    pub(super) lease: Duration,
    slow: u32,
    lost: u32,
    /// Of the notifications.
    untold: u32,
    /// Between what happens to a process.
    pub(super) calm_millis: u64,
    pub(super) stopped: u32,
    pub(super) cut_off: u32,
    pub(super) ended: u32,
    /// How many changes are kept for who has not read them.
    kept: usize,
}

/// What everybody shares: the database, the network, chance, and who keeps the score.
pub(super) struct World {
    pub(super) chance: SmallRng,
    pub(super) mood: Mood,
    pub(super) revoked: BTreeMap<u8, bool>,
    /// When a revocation answered.
    pub(super) answered: BTreeMap<u8, Instant>,
    /// The key that is being revoked, or was last.
    pub(super) in_question: u8,
    pub(super) revision: Revision,
    pub(super) changes: Vec<(Revision, Change)>,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) listeners: BTreeMap<InstanceId, mpsc::UnboundedSender<Note>>,
    /// Until when the database is out of a process's reach.
    pub(super) cut_off_until: BTreeMap<InstanceId, Instant>,
    pub(super) instances_made: u128,
    pub(super) accepted: u64,
    /// How often keys were made good again.
    pub(super) renewals: BTreeMap<u8, u64>,
    pub(super) revocations: u64,
    pub(super) violation: Option<String>,
}

pub(super) type Shared = Arc<Mutex<World>>;

#[derive(Clone, Copy)]
pub(super) enum Note {
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
        let mood = Mood {
            lease,
            slow: one_of([3, 15, 40]),
            lost: one_of([0, 4, 15]),
            untold: one_of([0, 15, 70]),
            calm_millis: one_of([150, 600, 3000]).into(),
            stopped: one_of([0, 20, 40]),
            cut_off: one_of([0, 20, 40]),
            ended: one_of([0, 15, 40]),
            kept: one_of([2, 5, 1000]) as usize,
        };
        Self {
            chance,
            mood,
            revoked: (0..KEYS).map(|key| (key, false)).collect(),
            answered: BTreeMap::new(),
            in_question: 0,
            revision: Revision { number: 0, tag: 0 },
            changes: Vec::new(),
            instances: BTreeMap::new(),
            listeners: BTreeMap::new(),
            cut_off_until: BTreeMap::new(),
            instances_made: 0,
            accepted: 0,
            renewals: BTreeMap::new(),
            revocations: 0,
            violation: None,
        }
    }

    pub(super) fn happens(&mut self, percent: u32) -> bool {
        self.chance.random_ratio(percent, 100)
    }

    pub(super) fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.chance.random_range(0..=most))
    }

    /// Up to so many leases.
    pub(super) fn leases(&mut self, most: u64) -> Duration {
        self.millis(most * self.mood.lease.as_millis() as u64)
    }

    pub(super) fn delay(&mut self) -> Duration {
        let most = match self.happens(self.mood.slow) {
            true if self.happens(20) => 900,
            true => 60,
            false => 3,
        };
        self.millis(most)
    }

    pub(super) fn any_key(&mut self) -> u8 {
        match self.happens(50) {
            true => self.in_question,
            false => self.chance.random_range(0..KEYS),
        }
    }

    /// Whether the database is out of this process's reach.
    pub(super) fn is_cut_off(&self, id: InstanceId) -> bool {
        self.cut_off_until
            .get(&id)
            .is_some_and(|until| *until > Instant::now())
    }

    /// Has the network fail, or come back, when it matters: shortly before this process makes a change.
    pub(super) fn cut_off_others(&mut self, id: InstanceId) {
        let percent = self.mood.cut_off;
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

    pub(super) fn tell(&mut self, note: Note) {
        for (id, listener) in self.listeners.clone() {
            if self.happens(self.mood.untold) || self.is_cut_off(id) {
                continue;
            }
            let delay = self.delay();
            tokio::spawn(async move {
                sleep(delay).await;
                let _ = listener.send(note);
            });
        }
    }

    /// Commits a revocation, unless it is made already; the revision to wait for.
    pub(super) fn revoke(&mut self, key: u8) -> i64 {
        if self.revoked.insert(key, true) == Some(false) {
            self.publish(key);
        } else if !holds(Guard::WaitToRepeat) {
            return -1;
        }
        self.revision.number
    }

    /// Commits that a key is good, whatever it was.
    pub(super) fn renew(&mut self, key: u8) {
        self.answered.remove(&key);
        *self.renewals.entry(key).or_default() += 1;
        self.revoked.insert(key, false);
        self.publish(key);
    }

    fn publish(&mut self, key: u8) {
        self.revision = Revision {
            number: self.revision.number + 1,
            tag: self.chance.random(),
        };
        // Of a user, as of a key: each has one.
        let change = match self.happens(20) {
            true => Change::User(user(key)),
            false => Change::Key(digest(key)),
        };
        self.changes.push((self.revision, change));
        self.tell(Note::Change);
    }

    /// What was changed since; `None` if some of that is not kept.
    pub(super) fn changes_since(&self, known: Revision) -> Option<Vec<Change>> {
        let new = self
            .changes
            .iter()
            .filter(|(at, _)| at.number > known.number);
        let new: Vec<_> = new.map(|(_, change)| *change).collect();
        (new.len() <= self.mood.kept).then_some(new)
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

/// A call to the database: it may be done late, or though nobody hears of it, or not at all.
pub(super) async fn call<T: Send + 'static>(
    world: &Shared,
    work: impl FnOnce(&mut World) -> T + Send + 'static,
) -> Result<T, Error> {
    let (there, back, lost) = {
        let mut world = lock(world);
        let lost = world.mood.lost;
        (world.delay(), world.delay(), world.happens(lost))
    };
    let shared = world.clone();
    let done = tokio::spawn(async move {
        sleep(there).await;
        let done = (!lost).then(|| work(&mut lock(&shared)));
        sleep(back).await;
        done
    });
    match timeout(TIMEOUT, done).await {
        Ok(Ok(Some(done))) => Ok(done),
        _ => Err(Error::Unavailable("lost".into())),
    }
}
