//! Hand-written schedules whose critical interval of a few milliseconds random schedules hit too rarely.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    guards::{SimulatedGuards, with_disabled},
    paused_runtime,
    world::{digest, facts},
};
use crate::{
    config::CacheConfig,
    domain::{boot_clock::BootClock, error::Error, id::InstanceId},
    models::{
        instance::Instance,
        key_change::{Change, ChangesSince, Revision},
    },
    verification::{
        cached_key::CachedKey,
        coherence::{
            acks::{Acks, PendingChange},
            channel::Channel,
            member::Member,
        },
        guard::Guard,
        key_cache::KeyCache,
    },
};

#[test]
fn change_responds_before_the_lease_expires_only_without_a_margin_for_clock_drift() {
    let responds_before_expiry = |disabled| {
        let runtime = paused_runtime();
        with_disabled(disabled, || {
            runtime.block_on(async {
                let start = Instant::now();
                let [slow, fast] = [0.99, 1.01].map(|rate| BootClock {
                    simulated: Some((start, rate)),
                });
                let lease = Duration::from_secs(10);
                let expiry = slow.now().after(lease);
                let silent = Instance::new(InstanceId(Uuid::nil()), 0, 1, lease);
                let change = PendingChange {
                    revision: 1,
                    committed: fast.now(),
                    acks_before: 0,
                    instances: vec![silent.clone()],
                };
                let list = async |_| Ok(vec![silent.clone()]);
                Acks::<SimulatedGuards>::new()
                    .wait_until_settled(change, fast, list)
                    .await;
                slow.now() < expiry
            })
        })
    };
    assert!(!responds_before_expiry(None));
    assert!(responds_before_expiry(Some(Guard::ClockDriftMargin)));
}

/// Channel on which another instance revokes a key just before the second renewal is committed, and lists the instances
/// without this one.
struct RevokedBeforeSecondRenewal {
    renewals: i64,
}

impl Channel for RevokedBeforeSecondRenewal {
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error> {
        self.renewals = renewals;
        Ok(-1)
    }

    async fn changes_since(&mut self, base: Option<Revision>) -> Result<ChangesSince, Error> {
        let number = i64::from(self.renewals > 1);
        let changes = base.map(|base| (base.number..number).map(|_| Change::Key(digest(0))));
        Ok(ChangesSince {
            revision: Revision { number, tag: 0 },
            changes: changes.map(Iterator::collect),
        })
    }
}

#[test]
fn key_revoked_just_before_a_renewal_is_accepted_only_if_changes_are_read_before_it() {
    let is_accepted = |disabled| {
        with_disabled(disabled, || {
            paused_runtime().block_on(async {
                let boot = BootClock {
                    simulated: Some((Instant::now(), 1.0)),
                };
                let config = CacheConfig {
                    lease: Duration::from_secs(2),
                    max_keys: 10,
                };
                let key_cache = KeyCache::<SimulatedGuards>::new(&config, boot).unwrap();
                let channel = RevokedBeforeSecondRenewal { renewals: 0 };
                let mut member = Member::new(&key_cache, boot, channel);
                member.renew().await.unwrap();
                let tickets = key_cache.find(&digest(0)).unwrap_err();
                let key = CachedKey::new(facts(0, false), boot.now()).into();
                key_cache.insert(tickets, digest(0), Some(&key));
                // By now, all other instances consider this one dead.
                tokio::time::sleep(config.lease * 2).await;
                member.renew().await.unwrap();
                key_cache.is_trusted() && key_cache.find(&digest(0)).is_ok()
            })
        })
    };
    assert!(!is_accepted(None));
    assert!(is_accepted(Some(Guard::CatchUpAfterRenewal)));
}
