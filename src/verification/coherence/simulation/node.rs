//! Process of the simulation, which runs the code that instances run.

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

use super::{
    guards::SimulatedGuards,
    world::{Shared, TIMEOUT, World, call, digest, facts, lock},
};
use crate::{
    config::CacheConfig,
    domain::{
        api_key::KeyDigest, boot_clock::BootClock, clock::UtcTime, error::Error, id::InstanceId,
    },
    models::{instance::Instance, key_facts::KeyFacts},
    verification::{
        coherence::{
            acks::Acks,
            change::{Committed, commit_and_wait},
        },
        engine::{Request, decide},
        key_cache::KeyCache,
        lookup::{Lookup, Source},
    },
};

/// Simulated process of an instance.
pub(super) struct Node {
    pub(super) world: Shared,
    pub(super) id: InstanceId,
    pub(super) boot: BootClock,
    pub(super) key_cache: Arc<KeyCache<SimulatedGuards>>,
    pub(super) acks: Acks<SimulatedGuards>,
    pub(super) lookup: Lookup<Database, SimulatedGuards>,
    /// Time until which the process is paused.
    pub(super) paused_until: Mutex<Instant>,
    pub(super) stop: Notify,
}

/// Simulated database, as the source of lookups.
#[derive(Clone)]
pub(super) struct Database(Shared);

impl Source for Database {
    async fn load(&self, digest: KeyDigest) -> Result<Option<KeyFacts>, Error> {
        let key = digest.0[0];
        call(&self.0, move |world| Some(facts(key, world.revoked[&key]))).await
    }
}

impl Node {
    pub(super) fn new(world: &Shared) -> Rc<Self> {
        let (id, rate) = {
            let mut world = lock(world);
            world.instances_started += 1;
            let id = InstanceId(Uuid::from_u128(world.instances_started));
            // The rate of each clock is wrong by up to 1 %.
            (id, [0.99, 1.0, 1.01][world.chance.random_range(0..3)])
        };
        let boot = BootClock {
            simulated: Some((Instant::now(), rate)),
        };
        let config = CacheConfig {
            lease: lock(world).parameters.lease,
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
            paused_until: Mutex::new(Instant::now()),
            stop: Notify::new(),
        })
    }

    /// Waits while the process is paused.
    pub(super) async fn wait_while_paused(&self) {
        loop {
            let until = *self.paused_until.lock().unwrap();
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Calls the database from this process.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.wait_while_paused().await;
        if lock(&self.world).is_cut_off(self.id) {
            sleep(TIMEOUT).await;
            return Err(Error::Unavailable("cut off".into()));
        }
        let result = call(&self.world, work).await;
        self.wait_while_paused().await;
        result
    }

    /// Sends a request with a key to this process, and checks the decision.
    pub(super) async fn request(&self, key: u8) {
        let sent = Instant::now();
        let delay = lock(&self.world).delay();
        sleep(delay).await;
        self.wait_while_paused().await;
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
        if let Some(responded) = world
            .revocation_responded
            .get(&key)
            .filter(|responded| **responded < sent)
        {
            let delay = sent - *responded;
            let id = self.id;
            world.violation = Some(format!(
                "{id} accepted key {key} in a request sent {delay:?} after the response to its revocation"
            ));
        }
    }

    /// Revokes a key. Repeats the revocation until it succeeds.
    pub(super) async fn revoke(&self, key: u8) {
        loop {
            let restorations = {
                let mut world = lock(&self.world);
                world.last_revoked_key = key;
                world.cut_off_others(self.id);
                world.restorations.get(&key).copied()
            };
            let delay = lock(&self.world).millis(60);
            sleep(delay).await;
            let commit = async || {
                let revision = self.call(move |world| world.revoke(key)).await?;
                Ok(Committed {
                    result: (),
                    revision,
                })
            };
            let list = async |_| self.instances().await;
            let result = commit_and_wait(commit, list, self.boot, &self.acks).await;
            self.wait_while_paused().await;
            if result.is_err() {
                continue;
            }
            let mut world = lock(&self.world);
            world.revocations += 1;
            // A key that was restored in the meantime may be accepted.
            if world.restorations.get(&key).copied() == restorations {
                world.revocation_responded.insert(key, Instant::now());
            }
            return;
        }
    }

    pub(super) async fn instances(&self) -> Result<Vec<Instance>, Error> {
        self.call(|world| world.instances.values().cloned().collect())
            .await
    }
}
