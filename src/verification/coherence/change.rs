//! Execution of a change: commits it and waits until it is in effect on all instances.

use super::acks::{Acks, PendingChange};
use crate::{
    domain::{
        boot_clock::{BootClock, Tick},
        error::Error,
    },
    models::instance::Instance,
    verification::guard::{Guard, Guards},
};

/// Result of a committed transaction.
pub(super) struct Committed<T> {
    pub result: T,
    /// Revision of the transaction. If it changed nothing, the revision that was current.
    pub revision: i64,
}

/// Commits a change, then waits for all instances that may still use the previous state. `list` must return the list of
/// instances at the given time or later.
pub(super) async fn commit_and_wait<T, G: Guards>(
    commit: impl AsyncFnOnce() -> Result<Committed<T>, Error>,
    list: impl AsyncFn(Tick) -> Result<Vec<Instance>, Error>,
    boot: BootClock,
    acks: &Acks<G>,
) -> Result<T, Error> {
    let listed_before = if G::enforces(Guard::ListAfterCommit) {
        None
    } else {
        Some(list(boot.now()).await?)
    };
    let Committed { result, revision } = commit().await?;
    let (committed, acks_before) = (boot.now(), acks.received_count());
    let instances = match listed_before {
        Some(listed) => listed,
        None => list(committed).await?,
    };
    let change = PendingChange {
        revision,
        committed,
        acks_before,
        instances,
    };
    if G::enforces(Guard::WaitForAcks) {
        acks.wait_until_settled(change, boot, list).await;
    }
    Ok(result)
}
