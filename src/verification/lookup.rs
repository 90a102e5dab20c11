//! Finds what is known of a key: in key_cache, or else in the database, once however many ask.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::verification::{
    cached_key::CachedKey,
    check_counters::Source as From,
    guard::{Guard, holds},
    key_cache::{KeyCache, Tickets},
};
use crate::{
    db::Db,
    domain::{api_key::KeyDigest, boot_clock::BootClock, error::Error},
    models::key_facts::{self, KeyFacts},
    telemetry::traces,
};

/// Where the truth is.
pub(super) trait Source: Send + Sync + 'static {
    /// The key with this digest.
    fn load(
        &self,
        digest: KeyDigest,
    ) -> impl Future<Output = Result<Option<KeyFacts>, Error>> + Send;
}

impl Source for Db {
    async fn load(&self, digest: KeyDigest) -> Result<Option<KeyFacts>, Error> {
        self.read(move |conn| key_facts::find_by_digest(conn, digest))
            .await
    }
}

type Found = Option<Arc<CachedKey>>;

/// Finds keys. Clones share everything.
pub(super) struct Lookup<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    source: S,
    boot: BootClock,
    key_cache: Option<Arc<KeyCache>>,
    flights: Mutex<HashMap<KeyDigest, Flight>>,
}

/// A lookup that is under way.
struct Flight {
    tickets: Tickets,
    landed: watch::Receiver<Option<Result<Found, Error>>>,
}

impl<S> Clone for Lookup<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S: Source> Lookup<S> {
    pub(super) fn new(source: S, boot: BootClock, key_cache: Option<Arc<KeyCache>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                boot,
                key_cache,
                flights: Mutex::default(),
            }),
        }
    }

    /// The key with this digest, and what it is known from. An error means that nobody can tell: the
    /// database did not.
    pub(super) async fn find(&self, digest: KeyDigest) -> Result<(Found, From), Error> {
        let from_database = |found| (found, From::Database);
        let Some(key_cache) = &self.shared.key_cache else {
            return self.shared.load(digest).await.map(from_database);
        };
        let mut trusted = key_cache.is_trusted();
        #[cfg(test)]
        super::guard::simulated::pause().await;
        let found = key_cache.find(&digest);
        #[cfg(test)]
        super::guard::simulated::pause().await;
        if !holds(Guard::TrustBeforeLook) {
            trusted = key_cache.is_trusted();
        }
        match found {
            _ if !trusted => self.shared.load(digest).await.map(from_database),
            Ok(found) => Ok((found, From::Cache)),
            Err(tickets) => self
                .join(key_cache, digest, tickets)
                .await
                .map(from_database),
        }
    }

    /// Waits for a lookup that is under way, or for one that begins now. It goes on if nobody waits for
    /// it any more: somebody may join.
    async fn join(
        &self,
        key_cache: &Arc<KeyCache>,
        digest: KeyDigest,
        tickets: Tickets,
    ) -> Result<Found, Error> {
        let mut landed = {
            let mut flights = self.shared.flights();
            match flights.get(&digest) {
                // Of any other, what it finds may be from before something was forgotten.
                Some(flight) if flight.tickets == tickets || !holds(Guard::JoinTicket) => {
                    flight.landed.clone()
                }
                _ => {
                    let (sender, landed) = watch::channel(None);
                    let flight = Flight {
                        tickets,
                        landed: landed.clone(),
                    };
                    flights.insert(digest, flight);
                    let place = Place {
                        shared: self.shared.clone(),
                        digest,
                        sender,
                    };
                    let key_cache = key_cache.clone();
                    tokio::spawn(traces::carried(async move {
                        place.fly(&key_cache, tickets).await;
                    }));
                    landed
                }
            }
        };
        let landed = landed.wait_for(Option::is_some).await;
        landed
            .ok()
            .and_then(|found| found.clone())
            .unwrap_or_else(|| Err(Error::Unavailable("a lookup was given up".into())))
    }
}

impl<S: Source> Shared<S> {
    async fn load(&self, digest: KeyDigest) -> Result<Found, Error> {
        let asked = self.boot.now();
        let facts = self.source.load(digest).await?;
        Ok(facts.map(|facts| Arc::new(CachedKey::new(facts, asked))))
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<KeyDigest, Flight>> {
        self.flights.lock()
    }
}

/// A flight's place among the others, given up when it has landed, however.
struct Place<S: Source> {
    shared: Arc<Shared<S>>,
    digest: KeyDigest,
    sender: watch::Sender<Option<Result<Found, Error>>>,
}

impl<S: Source> Place<S> {
    async fn fly(self, key_cache: &KeyCache, tickets: Tickets) {
        let found = self.shared.load(self.digest).await;
        if let Ok(found) = &found {
            key_cache.insert(tickets, self.digest, found.as_ref());
        }
        self.sender.send_replace(Some(found));
    }
}

impl<S: Source> Drop for Place<S> {
    fn drop(&mut self) {
        let mut flights = self.shared.flights();
        let ours = self.sender.subscribe();
        // A later one may have taken the place.
        let is_ours = |flight: &Flight| flight.landed.same_channel(&ours);
        if flights.get(&self.digest).is_some_and(is_ours) {
            flights.remove(&self.digest);
        }
    }
}
