//! Requests that wait for amount which have to be asked for: once, however many wait.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::domain::error::Error;

/// Something that has amount in hand, and asks for more where all instances take theirs from.
pub(super) trait Refillable: Send + Sync + 'static {
    /// What the amount are taken of.
    type Limit: Copy + Send + Sync + 'static;
    type Output;

    fn refill_queue(&self) -> &RefillQueue;
    /// Takes amount from those in hand, or says that there are no others.
    fn take(&self, limit: Self::Limit, amount: u64) -> Taken<Self::Output>;
    /// Asks for more.
    fn refill(&self, limit: Self::Limit) -> impl Future<Output = Result<(), Error>> + Send;
    /// Has it done, whoever waits for it.
    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static);
}

/// What comes of taking from what is in hand.
pub(super) enum Taken<A> {
    Done(A),
    /// The same, and soon nothing is left.
    NearlyEmpty(A),
    /// There may be more, but not in hand.
    Refill,
}

/// Takes amount, and waits for them if they have to be asked for.
pub(super) async fn take<S: Refillable>(
    counter: &Arc<S>,
    limit: S::Limit,
    amount: u64,
) -> Result<S::Output, Error> {
    if let Some(output) = take_now(counter, limit, amount) {
        return Ok(output);
    }
    let _place = counter.refill_queue().enter(amount);
    loop {
        let mut result = start_refill(counter, limit);
        let result = result.wait_for(Option::is_some).await;
        let given_up = || Err(Error::Unavailable("a refill was given up".into()));
        result
            .ok()
            .and_then(|done| done.clone())
            .unwrap_or_else(given_up)?;
        if let Some(output) = take_now(counter, limit, amount) {
            return Ok(output);
        }
    }
}

/// Takes amount from what is in hand.
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

/// Asks for more, unless somebody does.
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
    // It goes on if nobody waits for it any more: what it takes must come into a hand.
    counter.spawn(async move {
        let done = refill.counter.refill(limit).await;
        refill.counter.refill_queue().queue().refill = None;
        refill.sender.send_replace(Some(done));
    });
    result
}

/// A refill under way. However it ends, the next can begin.
struct RefillInProgress<S: Refillable> {
    counter: Arc<S>,
    sender: watch::Sender<Option<Result<(), Error>>>,
}

impl<S: Refillable> Drop for RefillInProgress<S> {
    fn drop(&mut self) {
        let ours = self.sender.subscribe();
        let mut queue = self.counter.refill_queue().queue();
        let is_ours = |result: &RefillResult| result.same_channel(&ours);
        if queue.refill.as_ref().is_some_and(is_ours) {
            queue.refill = None;
        }
    }
}

/// Who waits, and whether more is asked for.
#[derive(Default)]
pub(super) struct RefillQueue(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// How many wait for so many amount each.
    waiting: BTreeMap<u64, usize>,
    refill: Option<RefillResult>,
}

impl RefillQueue {
    /// The least that anybody waits for, and what all of them do. Who only looks waits for nothing.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let queue = self.queue();
        let least = queue.waiting.keys().find(|amount| **amount > 0);
        let least = least.copied().unwrap_or(0);
        let sum = |sum: u64, (amount, count): (&u64, &usize)| {
            sum.saturating_add(amount.saturating_mul(*count as u64))
        };
        (least, queue.waiting.iter().fold(0, sum))
    }

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
