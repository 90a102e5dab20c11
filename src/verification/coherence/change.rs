//! How a change is carried out: it answers when nobody goes by what was before.

use super::acks::{Acks, Pending};
#[cfg(test)]
use crate::verification::guard::{Guard, holds};
use crate::{
    domain::{
        boot_clock::{BootClock, Tick},
        error::Error,
    },
    models::instance::Instance,
};

/// What a transaction has come to.
pub(super) struct Committed<T> {
    pub made: T,
    /// Its revision, or if it changed nothing, that of those before it.
    pub revision: i64,
}

/// Commits, then waits for everybody who may go by what was before. `list` tells who the instances are,
/// as of a certain moment or later.
pub(super) async fn carry_out<T>(
    commit: impl AsyncFnOnce() -> Result<Committed<T>, Error>,
    list: impl AsyncFn(Tick) -> Result<Vec<Instance>, Error>,
    boot: BootClock,
    acks: &Acks,
) -> Result<T, Error> {
    #[cfg(test)]
    let listed_before = match holds(Guard::ListAfterCommit) {
        true => None,
        false => Some(list(boot.now()).await?),
    };
    let Committed { made, revision } = commit().await?;
    let (committed, told) = (boot.now(), acks.told());
    #[cfg(not(test))]
    let instances = list(committed).await?;
    #[cfg(test)]
    let instances = match listed_before {
        Some(listed) => listed,
        None => list(committed).await?,
    };
    let pending = Pending {
        revision,
        committed,
        told,
        instances,
    };
    #[cfg(test)]
    if !holds(Guard::WaitForAcks) {
        return Ok(made);
    }
    acks.settled(pending, boot, list).await;
    Ok(made)
}
