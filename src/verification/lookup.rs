//! Lookup of keys by digest: in the cache, else in the database with one query for all concurrent requests.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::{
    cached_key::CachedKey,
    check_counters::LookupSource,
    guard::{AllGuards, Guard, Guards},
    key_cache::{KeyCache, Tickets},
};
use crate::{
    db::Db,
    domain::{api_key::KeyDigest, boot_clock::BootClock, error::Error},
    models::key_facts::{self, KeyFacts},
    telemetry::traces,
};

/// Authoritative store of keys: the database, or that of the simulation.
pub(super) trait Source: Send + Sync + 'static {
    /// Returns the key with this digest.
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

/// Looks keys up. Clones share all state.
pub(super) struct Lookup<S, G = AllGuards> {
    shared: Arc<Shared<S, G>>,
}

struct Shared<S, G> {
    source: S,
    boot: BootClock,
    key_cache: Option<Arc<KeyCache<G>>>,
    pending: Mutex<HashMap<KeyDigest, PendingLookup>>,
}

/// Database lookup in progress, which other requests may share.
struct PendingLookup {
    tickets: Tickets,
    /// `None` until the lookup completes.
    result: watch::Receiver<Option<Result<Found, Error>>>,
}

impl<S, G> Clone for Lookup<S, G> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S: Source, G: Guards> Lookup<S, G> {
    pub(super) fn new(source: S, boot: BootClock, key_cache: Option<Arc<KeyCache<G>>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                boot,
                key_cache,
                pending: Mutex::default(),
            }),
        }
    }

    /// Returns the key with this digest and the source of its data. Fails if the database is needed and fails.
    pub(super) async fn find(&self, digest: KeyDigest) -> Result<(Found, LookupSource), Error> {
        let from_database = |found| (found, LookupSource::Database);
        let Some(key_cache) = &self.shared.key_cache else {
            return self.shared.load(digest).await.map(from_database);
        };
        let mut trusted = key_cache.is_trusted();
        G::pause().await;
        let found = key_cache.find(&digest);
        G::pause().await;
        if !G::enforces(Guard::CheckTrustBeforeCacheRead) {
            trusted = key_cache.is_trusted();
        }
        match found {
            _ if !trusted => self.shared.load(digest).await.map(from_database),
            Ok(found) => Ok((found, LookupSource::Cache)),
            Err(tickets) => self
                .join(key_cache, digest, tickets)
                .await
                .map(from_database),
        }
    }

    /// Waits for the pending lookup of this digest, or starts one.
    ///
    /// The lookup runs in a task of its own. It continues even if all waiting requests are cancelled: others may join.
    async fn join(
        &self,
        key_cache: &Arc<KeyCache<G>>,
        digest: KeyDigest,
        tickets: Tickets,
    ) -> Result<Found, Error> {
        let mut result = {
            let mut pending = self.shared.pending();
            match pending.get(&digest) {
                // A lookup with other tickets may return data from before an invalidation.
                Some(lookup)
                    if lookup.tickets == tickets || !G::enforces(Guard::TicketForSharedLookup) =>
                {
                    lookup.result.clone()
                }
                _ => {
                    let (sender, result) = watch::channel(None);
                    let lookup = PendingLookup {
                        tickets,
                        result: result.clone(),
                    };
                    pending.insert(digest, lookup);
                    let entry = PendingEntry {
                        shared: self.shared.clone(),
                        digest,
                        sender,
                    };
                    let key_cache = key_cache.clone();
                    tokio::spawn(traces::with_current_span(async move {
                        entry.run(&key_cache, tickets).await;
                    }));
                    result
                }
            }
        };
        let result = result.wait_for(Option::is_some).await;
        result
            .ok()
            .and_then(|found| found.clone())
            .unwrap_or_else(|| Err(Error::Unavailable("the lookup of a key was aborted".into())))
    }
}

impl<S: Source, G: Guards> Shared<S, G> {
    async fn load(&self, digest: KeyDigest) -> Result<Found, Error> {
        let started = self.boot.now();
        let facts = self.source.load(digest).await?;
        Ok(facts.map(|facts| Arc::new(CachedKey::new(facts, started))))
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<KeyDigest, PendingLookup>> {
        self.pending.lock()
    }
}

/// Entry of a lookup in [`Shared::pending`]. Dropping it removes the entry, even if the lookup panics.
struct PendingEntry<S: Source, G: Guards> {
    shared: Arc<Shared<S, G>>,
    digest: KeyDigest,
    sender: watch::Sender<Option<Result<Found, Error>>>,
}

impl<S: Source, G: Guards> PendingEntry<S, G> {
    async fn run(self, key_cache: &KeyCache<G>, tickets: Tickets) {
        let found = self.shared.load(self.digest).await;
        if let Ok(found) = &found {
            key_cache.insert(tickets, self.digest, found.as_ref());
        }
        self.sender.send_replace(Some(found));
    }
}

impl<S: Source, G: Guards> Drop for PendingEntry<S, G> {
    fn drop(&mut self) {
        let mut pending = self.shared.pending();
        let own = self.sender.subscribe();
        // A later lookup may have replaced the entry.
        let is_own = |lookup: &PendingLookup| lookup.result.same_channel(&own);
        if pending.get(&self.digest).is_some_and(is_own) {
            pending.remove(&self.digest);
        }
    }
}
