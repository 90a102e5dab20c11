//! How a member of the cluster talks to the others: through the database.

use std::{future::pending, time::Duration};

use tokio::{task::JoinHandle, time::sleep};

use super::{acks::Acks, heard::Heard};
use crate::{
    config::DatabaseConfig,
    db::{
        Conn, ConnectError, Db,
        notifications::{Notification, Notifications},
    },
    domain::{error::Error, id::InstanceId},
    models::{
        instance::{self, ACKS_CHANNEL, Instance},
        key_change::{self, CHANGES_CHANNEL, News, Revision},
    },
};

/// How long a listener that was lost is gone, at least.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// One to read, one to write while that hangs.
const CONNECTIONS: u32 = 2;
/// No lease is so short that the database must answer sooner.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What a member asks, and tells. Each step has happened for everybody when it has answered.
pub(super) trait Channel {
    /// Says for so many times that this instance goes on. Answers the revision that everybody takes as
    /// acknowledged by it.
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error>;
    /// What has happened since.
    async fn news(&mut self, known: Option<Revision>) -> Result<News, Error>;

    // The rest is nothing where there is nobody else.

    /// Says that this instance answers nothing any more from before this revision.
    async fn acknowledge(&mut self, _: Revision) -> Result<(), Error> {
        Ok(())
    }
    /// Everybody who has said that they go on.
    async fn instances(&mut self) -> Result<Vec<Instance>, Error> {
        Ok(Vec::new())
    }
    /// Removes one that has not gone on since it was seen like this.
    async fn remove_dead(&mut self, _: Instance) -> Result<(), Error> {
        Ok(())
    }
    /// Waits until there may be news. May be given up while it waits.
    async fn notified(&mut self) {
        pending().await
    }
    /// Says that this instance does not go on.
    async fn leave(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The database that this instance serves, on connections of its own: requests may keep the others
/// busy for longer than a lease.
pub(super) struct DbChannel {
    db: Db,
    config: DatabaseConfig,
    id: InstanceId,
    lease: Duration,
    acks: Acks,
    listener: Option<Notifications>,
    /// One that is being connected.
    connecting: Option<JoinHandle<Result<Notifications, ConnectError>>>,
    heard: Heard,
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
            db: Db::open_later(&config),
            config,
            id,
            lease,
            acks,
            listener: None,
            connecting: None,
            heard: Heard::default(),
        }
    }

    /// Whether there may be news.
    fn take_in(&mut self, notification: &Notification) -> bool {
        if notification.channel == CHANGES_CHANNEL {
            let revision = notification.payload.parse().ok();
            return revision.is_none_or(|revision| self.heard.is_news(revision));
        }
        let ack = instance::read_acknowledgement(&notification.payload);
        ack.into_iter()
            .for_each(|(id, revision)| self.acks.note(id, revision));
        false
    }
}

impl Channel for DbChannel {
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error> {
        if self.heard.is_listener_lost() {
            self.listener = None;
        }
        let (id, lease) = (self.id, self.lease);
        self.db
            .write(move |conn| Ok(instance::renew(conn, id, renewals, lease)?))
            .await
    }

    async fn news(&mut self, known: Option<Revision>) -> Result<News, Error> {
        let news = self.db.read(move |conn| key_change::since(conn, known));
        let news = news.await?;
        self.heard
            .has_read(news.revision.number, news.changes.is_none());
        Ok(news)
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
                // It goes on when this is given up: it may take longer than anybody waits here.
                let connecting = self
                    .connecting
                    .get_or_insert_with(|| tokio::spawn(listen(config.clone())));
                let connected = connecting.await;
                self.connecting = None;
                if let Ok(Ok(listener)) = connected {
                    self.listener = Some(listener);
                    self.heard.listens_anew();
                    // There may have been something before.
                    return;
                }
                continue;
            };
            match listener.next().await {
                Ok(notification) => {
                    if self.take_in(&notification) {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "lost the database's notifications; listening again");
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
        tracing::warn!(%error, "cannot listen to the database; trying again");
        sleep(LISTEN_AGAIN_AFTER).await;
    }
    listening
}
