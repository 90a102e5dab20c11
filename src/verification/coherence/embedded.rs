//! Channel of the only instance on an embedded database.
//!
//! The process invalidates its own changes. It needs the lease nevertheless: it must not answer from its cache for ever
//! while the database is unreachable.

use super::channel::Channel;
use crate::{
    config::DatabaseConfig,
    db::Db,
    domain::error::Error,
    models::key_change::{ChangesSince, Revision},
    verification::key_cache::KeyCache,
};

/// Channel without other instances.
pub(super) struct Embedded<'a> {
    /// Database with its own connection: requests may keep those of the pool busy for longer than a lease.
    db: Db,
    key_cache: &'a KeyCache,
    /// Number of times that the files of the database had been lost when changes were last requested.
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
            losses: db.file_losses(),
        }
    }
}

impl Channel for Embedded<'_> {
    async fn renew(&mut self, _: i64) -> Result<i64, Error> {
        self.db.ping().await.map(|()| -1)
    }

    /// Returns no changes, unless the files of the database were lost: another program may have changed anything in
    /// them meanwhile.
    async fn changes_since(&mut self, base: Option<Revision>) -> Result<ChangesSince, Error> {
        if let Some(loss) = self.db.file_loss() {
            // Gives up the lease at once.
            self.key_cache.distrust();
            return Err(Error::Unavailable(loss.into()));
        }
        let losses = self.db.file_losses();
        let is_continuous = losses == self.losses;
        self.losses = losses;
        Ok(ChangesSince {
            revision: Revision { number: 0, tag: 0 },
            changes: base.filter(|_| is_continuous).map(|_| Vec::new()),
        })
    }

    async fn notified(&mut self) {
        self.db.wait_for_file_loss().await;
    }
}
