//! A process of the simulation: it runs the code that instances run.

use std::{
    rc::Rc,
    sync::{Arc, Mutex},
};

use rand::RngExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use super::world::{Shared, TIMEOUT, World, call, digest, facts, lock};
use crate::{
    config::CacheConfig,
    domain::{
        api_key::KeyDigest, boot_clock::BootClock, clock::UtcTime, error::Error, id::InstanceId,
    },
    models::{instance::Instance, key_facts::KeyFacts},
    verification::{
        coherence::{
            acks::Acks,
            change::{Committed, carry_out},
        },
        engine::{Request, decide},
        key_cache::KeyCache,
        lookup::{Lookup, Source},
    },
};

/// A process.
pub(super) struct Node {
    pub(super) world: Shared,
    pub(super) id: InstanceId,
    pub(super) boot: BootClock,
    pub(super) key_cache: Arc<KeyCache>,
    pub(super) acks: Acks,
    pub(super) lookup: Lookup<Database>,
    /// Until when it stands still.
    pub(super) still_until: Mutex<Instant>,
    pub(super) stop: Notify,
}

#[derive(Clone)]
pub(super) struct Database(Shared);

impl Source for Database {
    async fn load(&self, wanted: KeyDigest) -> Result<Option<KeyFacts>, Error> {
        let key = wanted.0[0];
        call(&self.0, move |world| Some(facts(key, world.revoked[&key]))).await
    }
}

impl Node {
    pub(super) fn new(world: &Shared) -> Rc<Self> {
        let (id, rate) = {
            let mut world = lock(world);
            world.instances_made += 1;
            let id = InstanceId(Uuid::from_u128(world.instances_made));
            // Each up to 1 % wrong.
            (id, [0.99, 1.0, 1.01][world.chance.random_range(0..3)])
        };
        let boot = BootClock {
            simulated: Some((Instant::now(), rate)),
        };
        let config = CacheConfig {
            lease: lock(world).mood.lease,
            max_keys: 1000,
        };
        let key_cache = Arc::new(KeyCache::new(&config, boot).unwrap());
        Rc::new(Self {
            world: world.clone(),
            id,
            boot,
            lookup: Lookup::new(Database(world.clone()), boot, Some(key_cache.clone())),
            key_cache,
            acks: Acks::new(),
            still_until: Mutex::new(Instant::now()),
            stop: Notify::new(),
        })
    }

    /// Goes on when the process does.
    pub(super) async fn gate(&self) {
        loop {
            let until = *self.still_until.lock().unwrap();
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.gate().await;
        if lock(&self.world).is_cut_off(self.id) {
            sleep(TIMEOUT).await;
            return Err(Error::Unavailable("cut off".into()));
        }
        let done = call(&self.world, work).await;
        self.gate().await;
        done
    }

    /// A request with a key, from when it is sent.
    pub(super) async fn request(&self, key: u8) {
        let sent = Instant::now();
        let delay = lock(&self.world).delay();
        sleep(delay).await;
        self.gate().await;
        let found = self.lookup.find(digest(key)).await.map(|(found, _)| found);
        let request = Request {
            now: UtcTime(0),
            client_ip: None,
            scopes: &[],
        };
        let Ok(Some(found)) = found else { return };
        if decide(Some(&found), &request).is_err() {
            return;
        }
        let mut world = lock(&self.world);
        world.accepted += 1;
        if let Some(answered) = world
            .answered
            .get(&key)
            .filter(|answered| **answered < sent)
        {
            let late = sent - *answered;
            let id = self.id;
            world.violation = Some(format!(
                "{id} accepted key {key}, sent {late:?} after the answer"
            ));
        }
    }

    /// Revokes a key, again if nobody knows whether it is done, until it is.
    pub(super) async fn revoke(&self, key: u8) {
        loop {
            let renewals = {
                let mut world = lock(&self.world);
                world.in_question = key;
                world.cut_off_others(self.id);
                world.renewals.get(&key).copied()
            };
            let moment = lock(&self.world).millis(60);
            sleep(moment).await;
            let commit = async || {
                let revision = self.call(move |world| world.revoke(key)).await?;
                Ok(Committed { made: (), revision })
            };
            let list = async |_| self.instances().await;
            let done = carry_out(commit, list, self.boot, &self.acks).await;
            self.gate().await;
            if done.is_err() {
                continue;
            }
            let mut world = lock(&self.world);
            world.revocations += 1;
            // One that was made good in the meantime may be accepted.
            if world.renewals.get(&key).copied() == renewals {
                world.answered.insert(key, Instant::now());
            }
            return;
        }
    }

    pub(super) async fn instances(&self) -> Result<Vec<Instance>, Error> {
        self.call(|world| world.instances.values().cloned().collect())
            .await
    }
}
