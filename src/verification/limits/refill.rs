//! Waiting for tokens or units that have to be requested: one refill at a time serves all waiting requests.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::domain::error::Error;

/// Counter with tokens or units on this instance that is refilled from a store that all instances share.
pub(super) trait Refillable: Send + Sync + 'static {
    /// Limit that the counter enforces.
    type Limit: Copy + Send + Sync + 'static;
    /// Result of taking an amount.
    type Output;

    fn refill_queue(&self) -> &RefillQueue;
    /// Takes an amount from what is on this instance, or decides that it is denied. Never waits.
    fn take(&self, limit: Self::Limit, amount: u64) -> Taken<Self::Output>;
    /// Requests more from the shared store.
    fn refill(&self, limit: Self::Limit) -> impl Future<Output = Result<(), Error>> + Send;
    /// Runs a refill to completion, even if no request waits for it any more.
    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static);
}

/// Result of taking an amount from what is on this instance.
pub(super) enum Taken<O> {
    /// The amount was taken or denied.
    Done(O),
    /// The amount was taken, and little is left: a refill should start now.
    NearlyEmpty(O),
    /// Only a refill can decide.
    Refill,
}

/// Takes an amount, and waits for refills if necessary.
pub(super) async fn take<S: Refillable>(
    counter: &Arc<S>,
    limit: S::Limit,
    amount: u64,
) -> Result<S::Output, Error> {
    if let Some(output) = take_now(counter, limit, amount) {
        return Ok(output);
    }
    let _waiting = counter.refill_queue().enter(amount);
    loop {
        let mut result = start_refill(counter, limit);
        let result = result.wait_for(Option::is_some).await;
        let dropped = || {
            Err(Error::Unavailable(
                "a refill of a rate limit or quota was dropped".into(),
            ))
        };
        result
            .ok()
            .and_then(|done| done.clone())
            .unwrap_or_else(dropped)?;
        if let Some(output) = take_now(counter, limit, amount) {
            return Ok(output);
        }
    }
}

/// Takes an amount without waiting. Starts a refill if little is left.
fn take_now<S: Refillable>(counter: &Arc<S>, limit: S::Limit, amount: u64) -> Option<S::Output> {
    match counter.take(limit, amount) {
        Taken::Done(output) => Some(output),
        Taken::NearlyEmpty(output) => {
            drop(start_refill(counter, limit));
            Some(output)
        }
        Taken::Refill => None,
    }
}

type RefillResult = watch::Receiver<Option<Result<(), Error>>>;

/// Starts a refill, unless one is in progress. Returns the receiver of its result.
fn start_refill<S: Refillable>(counter: &Arc<S>, limit: S::Limit) -> RefillResult {
    let mut queue = counter.refill_queue().queue();
    if let Some(result) = &queue.refill {
        return result.clone();
    }
    let (sender, result) = watch::channel(None);
    queue.refill = Some(result.clone());
    let refill = RefillInProgress {
        counter: counter.clone(),
        sender,
    };
    // It continues if no request waits for it any more: the amount it takes must be added to the counter.
    counter.spawn(async move {
        let done = refill.counter.refill(limit).await;
        refill.counter.refill_queue().queue().refill = None;
        refill.sender.send_replace(Some(done));
    });
    result
}

/// Refill in progress. However it ends, the next one can start.
struct RefillInProgress<S: Refillable> {
    counter: Arc<S>,
    sender: watch::Sender<Option<Result<(), Error>>>,
}

impl<S: Refillable> Drop for RefillInProgress<S> {
    fn drop(&mut self) {
        let own = self.sender.subscribe();
        let mut queue = self.counter.refill_queue().queue();
        let is_own = |result: &RefillResult| result.same_channel(&own);
        if queue.refill.as_ref().is_some_and(is_own) {
            queue.refill = None;
        }
    }
}

/// Requests that wait for a refill, and the refill in progress.
#[derive(Default)]
pub(super) struct RefillQueue(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// Number of waiting requests by amount.
    waiting: BTreeMap<u64, usize>,
    refill: Option<RefillResult>,
}

impl RefillQueue {
    /// Returns the smallest amount that a request waits for, and the sum of all amounts. Requests for the status alone
    /// do not count.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let queue = self.queue();
        let minimum = queue.waiting.keys().find(|amount| **amount > 0);
        let minimum = minimum.copied().unwrap_or(0);
        let sum = |sum: u64, (amount, count): (&u64, &usize)| {
            sum.saturating_add(amount.saturating_mul(*count as u64))
        };
        (minimum, queue.waiting.iter().fold(0, sum))
    }

    /// Counts a waiting request until the guard is dropped.
    fn enter(&self, amount: u64) -> Waiting<'_> {
        *self.queue().waiting.entry(amount).or_default() += 1;
        Waiting {
            refill_queue: self,
            amount,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }
}

/// Guard that counts one waiting request.
struct Waiting<'a> {
    refill_queue: &'a RefillQueue,
    amount: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.refill_queue.queue();
        if let Some(count) = queue.waiting.get_mut(&self.amount) {
            *count -= 1;
            if *count == 0 {
                queue.waiting.remove(&self.amount);
            }
        }
    }
}
