//! On an embedded database there is one process, which forgets what it changes by itself. It needs the
//! lease all the same: it must not answer from key_cache for ever when its database is out of reach.

use super::channel::Channel;
use crate::{
    config::DatabaseConfig,
    db::Db,
    domain::error::Error,
    models::key_change::{News, Revision},
    verification::key_cache::KeyCache,
};

/// Nobody else to talk to.
pub(super) struct Embedded<'a> {
    /// On a connection of its own: requests may keep the others busy for longer than a lease.
    db: Db,
    key_cache: &'a KeyCache,
    /// The number of times that the database's files had been lost when the news were last asked for.
    losses: u64,
}

impl<'a> Embedded<'a> {
    pub(super) fn new(db: &Db, config: &DatabaseConfig, key_cache: &'a KeyCache) -> Self {
        let config = DatabaseConfig {
            pool_size: 1,
            ..config.clone()
        };
        Self {
            db: db.beside(&config),
            key_cache,
            losses: db.losses(),
        }
    }
}

impl Channel for Embedded<'_> {
    async fn renew(&mut self, _: i64) -> Result<i64, Error> {
        self.db.ping().await.map(|()| -1)
    }

    /// There are none, but after the database's files were lost: whoever had them meanwhile may have changed
    /// anything.
    async fn news(&mut self, known: Option<Revision>) -> Result<News, Error> {
        if let Some(loss) = self.db.lost_files() {
            // The lease ends now.
            self.key_cache.distrust();
            return Err(Error::Unavailable(loss.into()));
        }
        let losses = self.db.losses();
        let is_known = losses == self.losses;
        self.losses = losses;
        Ok(News {
            revision: Revision { number: 0, tag: 0 },
            changes: known.filter(|_| is_known).map(|_| Vec::new()),
        })
    }

    async fn notified(&mut self) {
        self.db.files_lost().await;
    }
}
