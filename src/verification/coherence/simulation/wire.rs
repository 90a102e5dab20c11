//! How a process of the simulation talks to the others.

use std::rc::Rc;

use tokio::sync::mpsc;

use super::{
    node::Node,
    world::{Note, World},
};
use crate::{
    domain::error::Error,
    models::{
        instance::Instance,
        key_change::{News, Revision},
    },
    verification::coherence::channel::Channel,
};

/// A process's channel.
pub(super) struct Wire {
    pub(super) node: Rc<Node>,
    pub(super) notes: mpsc::UnboundedReceiver<Note>,
}

impl Channel for Wire {
    async fn renew(&mut self, renewals: i64) -> Result<i64, Error> {
        let id = self.node.id;
        let renew = move |world: &mut World| {
            let lease = world.mood.lease;
            let row = world
                .instances
                .entry(id)
                .or_insert_with(|| Instance::new(id, -1, 0, lease));
            let is_late = row.renewals >= renewals;
            row.renewals = row.renewals.max(renewals);
            (!is_late).then_some(row.acked_revision)
        };
        let late = || Error::internal("a renewal that came late");
        self.node.call(renew).await?.ok_or_else(late)
    }

    async fn news(&mut self, known: Option<Revision>) -> Result<News, Error> {
        let news = move |world: &mut World| News {
            revision: world.revision,
            changes: known.and_then(|known| world.changes_since(known)),
        };
        self.node.call(news).await
    }

    async fn acknowledge(&mut self, revision: Revision) -> Result<(), Error> {
        let id = self.node.id;
        let acknowledge = move |world: &mut World| {
            if let Some(row) = world.instances.get_mut(&id) {
                row.acked_revision = revision.number;
            }
            world.tell(Note::Ack(id, revision.number));
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
        while let Some(note) = self.notes.recv().await {
            self.node.gate().await;
            match note {
                Note::Change => return,
                Note::Ack(id, revision) => self.node.acks.note(id, revision),
            }
        }
    }

    async fn leave(&mut self) -> Result<(), Error> {
        let id = self.node.id;
        let leave = move |world: &mut World| {
            world.instances.remove(&id);
            world.tell(Note::Ack(id, i64::MAX));
        };
        self.node.call(leave).await
    }
}
