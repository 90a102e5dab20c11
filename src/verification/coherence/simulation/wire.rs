//! Simulated channel between the processes of the simulation.

use std::rc::Rc;

use tokio::sync::mpsc;

use super::{
    node::Node,
    world::{Notification, World},
};
use crate::{
    domain::error::Error,
    models::{
        instance::Instance,
        key_change::{ChangesSince, Revision},
    },
    verification::coherence::channel::Channel,
};

/// Channel of a process.
pub(super) struct SimulatedChannel {
    pub(super) node: Rc<Node>,
    pub(super) notifications: mpsc::UnboundedReceiver<Notification>,
}

impl Channel for SimulatedChannel {
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error> {
        let id = self.node.id;
        let renew = move |world: &mut World| {
            let lease = world.parameters.lease;
            let row = world
                .instances
                .entry(id)
                .or_insert_with(|| Instance::new(id, -1, 0, lease));
            let is_late = row.renewals >= renewals;
            row.renewals = row.renewals.max(renewals);
            (!is_late).then_some(row.acked_revision)
        };
        let late = || Error::internal("the renewal arrived after a later one");
        self.node.call(renew).await?.ok_or_else(late)
    }

    async fn changes_since(&mut self, base: Option<Revision>) -> Result<ChangesSince, Error> {
        let read = move |world: &mut World| ChangesSince {
            revision: world.revision,
            changes: base.and_then(|base| world.changes_since(base)),
        };
        self.node.call(read).await
    }

    async fn acknowledge(&mut self, revision: Revision) -> Result<(), Error> {
        let id = self.node.id;
        let acknowledge = move |world: &mut World| {
            if let Some(row) = world.instances.get_mut(&id) {
                row.acked_revision = revision.number;
            }
            world.notify(Notification::Ack(id, revision.number));
        };
        self.node.call(acknowledge).await
    }

    async fn instances(&mut self) -> Result<Vec<Instance>, Error> {
        self.node.instances().await
    }

    async fn remove_dead(&mut self, seen: Instance) -> Result<(), Error> {
        let remove = move |world: &mut World| {
            let row = world.instances.get(&seen.id);
            if row.is_some_and(|row| row.renewals == seen.renewals) {
                world.instances.remove(&seen.id);
            }
        };
        self.node.call(remove).await
    }

    async fn notified(&mut self) {
        while let Some(notification) = self.notifications.recv().await {
            self.node.wait_while_paused().await;
            match notification {
                Notification::Change => return,
                Notification::Ack(id, revision) => self.node.acks.record(id, revision),
            }
        }
    }

    async fn leave(&mut self) -> Result<(), Error> {
        let id = self.node.id;
        let leave = move |world: &mut World| {
            world.instances.remove(&id);
            world.notify(Notification::Ack(id, i64::MAX));
        };
        self.node.call(leave).await
    }
}
