//! Schedules of a few milliseconds that chance hits too rarely.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    paused,
    world::{digest, facts},
};
use crate::{
    config::CacheConfig,
    domain::{boot_clock::BootClock, error::Error, id::InstanceId},
    models::{
        instance::Instance,
        key_change::{Change, News, Revision},
    },
    verification::{
        cached_key::CachedKey,
        coherence::{
            acks::{Acks, Pending},
            channel::Channel,
            member::Member,
        },
        guard::{Guard, simulated::without},
        key_cache::KeyCache,
    },
};

#[test]
fn without_a_margin_for_drift() {
    let answered_before_the_end = |left_out| {
        let runtime = paused();
        without(left_out, || {
            runtime.block_on(async {
                let start = Instant::now();
                let [slow, fast] = [0.99, 1.01].map(|rate| BootClock {
                    simulated: Some((start, rate)),
                });
                let lease = Duration::from_secs(10);
                let end = slow.now().after(lease);
                let silent = Instance::new(InstanceId(Uuid::nil()), 0, 1, lease);
                let pending = Pending {
                    revision: 1,
                    committed: fast.now(),
                    told: 0,
                    instances: vec![silent.clone()],
                };
                let list = async |_| Ok(vec![silent.clone()]);
                Acks::new().settled(pending, fast, list).await;
                slow.now() < end
            })
        })
    };
    assert!(!answered_before_the_end(None));
    assert!(answered_before_the_end(Some(Guard::DriftMargin)));
}

/// Somebody revokes a key, and lists the instances, at the last moment before this one is known again.
struct AtTheLastMoment {
    renewals: i64,
}

impl Channel for AtTheLastMoment {
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error> {
        self.renewals = renewals;
        Ok(-1)
    }

    async fn news(&mut self, known: Option<Revision>) -> Result<News, Error> {
        let number = i64::from(self.renewals > 1);
        let new = known.map(|known| (known.number..number).map(|_| Change::Key(digest(0))));
        Ok(News {
            revision: Revision { number, tag: 0 },
            changes: new.map(Iterator::collect),
        })
    }
}

#[test]
fn without_renewal_before_news() {
    let is_accepted = |left_out| {
        without(left_out, || {
            paused().block_on(async {
                let boot = BootClock {
                    simulated: Some((Instant::now(), 1.0)),
                };
                let config = CacheConfig {
                    lease: Duration::from_secs(2),
                    max_keys: 10,
                };
                let key_cache = KeyCache::new(&config, boot).unwrap();
                let channel = AtTheLastMoment { renewals: 0 };
                let mut member = Member::new(&key_cache, boot, channel);
                member.renew().await.unwrap();
                let tickets = key_cache.find(&digest(0)).unwrap_err();
                let key = CachedKey::new(facts(0, false), boot.now()).into();
                key_cache.insert(tickets, digest(0), Some(&key));
                // Everybody has taken it for dead by now.
                tokio::time::sleep(config.lease * 2).await;
                member.renew().await.unwrap();
                key_cache.is_trusted() && key_cache.find(&digest(0)).is_ok()
            })
        })
    };
    assert!(!is_accepted(None));
    assert!(is_accepted(Some(Guard::NewsAfterRenewal)));
}
