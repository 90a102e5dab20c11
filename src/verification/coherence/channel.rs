//! Communication between the instances, through the database.

use std::{future::pending, time::Duration};

use tokio::{task::JoinHandle, time::sleep};

use super::{acks::Acks, listener_check::ListenerCheck};
use crate::{
    config::DatabaseConfig,
    db::{
        Conn, ConnectError, Db,
        notifications::{Notification, Notifications},
    },
    domain::{error::Error, id::InstanceId},
    models::{
        instance::{self, ACKS_CHANNEL, Instance},
        key_change::{self, CHANGES_CHANNEL, ChangesSince, Revision},
    },
};

/// Delay after a failure to connect the listener.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);
/// Number of connections: one to read, and one to write while the first hangs.
const CONNECTIONS: u32 = 2;
/// Minimum timeout of queries. It applies if the lease is shorter.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Operations of a [`Member`](super::member::Member). The effect of each is visible to all instances when it returns.
pub(super) trait Channel {
    /// Stores a renewal with this number. Returns the revision that the other instances consider acknowledged by this
    /// one.
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error>;
    /// Returns the current revision and the changes after `base`.
    async fn changes_since(&mut self, base: Option<Revision>) -> Result<ChangesSince, Error>;

    // The default implementations are for a database with a single instance.

    /// Stores that this instance has invalidated all changes up to this revision, and notifies the others.
    async fn acknowledge(&mut self, _: Revision) -> Result<(), Error> {
        Ok(())
    }
    /// Returns all instances that have renewed and were not removed.
    async fn instances(&mut self) -> Result<Vec<Instance>, Error> {
        Ok(Vec::new())
    }
    /// Removes an instance, unless it has renewed since this row was read.
    async fn remove_dead(&mut self, _: Instance) -> Result<(), Error> {
        Ok(())
    }
    /// Waits until there may be new changes. Cancel-safe.
    async fn notified(&mut self) {
        pending().await
    }
    /// Removes this instance and notifies the others.
    async fn leave(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Channel through the PostgreSQL database. It has its own connections, since requests may keep those of the pool busy
/// for longer than a lease.
pub(super) struct DbChannel {
    db: Db,
    config: DatabaseConfig,
    id: InstanceId,
    lease: Duration,
    acks: Acks,
    listener: Option<Notifications>,
    /// Task that connects a new listener.
    connecting: Option<JoinHandle<Result<Notifications, ConnectError>>>,
    listener_check: ListenerCheck,
}

impl DbChannel {
    pub(super) fn new(
        config: &DatabaseConfig,
        id: InstanceId,
        lease: Duration,
        acks: Acks,
    ) -> Self {
        let config = DatabaseConfig {
            pool_size: CONNECTIONS,
            timeout: config.timeout.min(lease.max(MIN_TIMEOUT)),
            ..config.clone()
        };
        Self {
            db: Db::open_without_connecting(&config),
            config,
            id,
            lease,
            acks,
            listener: None,
            connecting: None,
            listener_check: ListenerCheck::default(),
        }
    }

    /// Handles a notification. Returns whether there may be new changes.
    fn handle(&mut self, notification: &Notification) -> bool {
        if notification.channel == CHANGES_CHANNEL {
            let revision = notification.payload.parse().ok();
            return revision
                .is_none_or(|revision| self.listener_check.record_announcement(revision));
        }
        let ack = instance::read_acknowledgement(&notification.payload);
        ack.into_iter()
            .for_each(|(id, revision)| self.acks.record(id, revision));
        false
    }
}

impl Channel for DbChannel {
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error> {
        if self.listener_check.is_listener_lost() {
            self.listener = None;
        }
        let (id, lease) = (self.id, self.lease);
        self.db
            .write(move |conn| Ok(instance::renew(conn, id, renewals, lease)?))
            .await
    }

    async fn changes_since(&mut self, base: Option<Revision>) -> Result<ChangesSince, Error> {
        let since = self
            .db
            .read(move |conn| key_change::changes_since(conn, base));
        let since = since.await?;
        self.listener_check
            .record_read(since.revision.number, since.changes.is_none());
        Ok(since)
    }

    async fn acknowledge(&mut self, revision: Revision) -> Result<(), Error> {
        let id = self.id;
        self.db
            .write(move |conn| Ok(instance::acknowledge(conn, id, revision.number)?))
            .await
    }

    async fn instances(&mut self) -> Result<Vec<Instance>, Error> {
        self.db.read(instance::list).await
    }

    async fn remove_dead(&mut self, seen: Instance) -> Result<(), Error> {
        self.db
            .write(move |conn| Ok(instance::remove_dead(conn, &seen)?))
            .await
    }

    async fn notified(&mut self) {
        loop {
            let Some(listener) = &mut self.listener else {
                let config = &self.config;
                // The task continues if this future is dropped: connecting may take longer than callers wait.
                let connecting = self
                    .connecting
                    .get_or_insert_with(|| tokio::spawn(listen(config.clone())));
                let connected = connecting.await;
                self.connecting = None;
                if let Ok(Ok(listener)) = connected {
                    self.listener = Some(listener);
                    self.listener_check.record_start();
                    // There may have been changes before the listener started.
                    return;
                }
                continue;
            };
            match listener.next().await {
                Ok(notification) => {
                    if self.handle(&notification) {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "lost the connection for database notifications; reconnecting");
                    self.listener = None;
                }
            }
        }
    }

    async fn leave(&mut self) -> Result<(), Error> {
        let id = self.id;
        self.db
            .write(move |conn: &mut Conn| Ok(instance::leave(conn, id)?))
            .await
    }
}

async fn listen(config: DatabaseConfig) -> Result<Notifications, ConnectError> {
    let url = config.url.postgres().ok_or(ConnectError::Url)?;
    let channels = [CHANGES_CHANNEL, ACKS_CHANNEL];
    let listening = Notifications::listen(url, config.timeout, &channels).await;
    if let Err(error) = &listening {
        tracing::warn!(%error, "failed to listen for database notifications; retrying");
        sleep(RECONNECT_DELAY).await;
    }
    listening
}
