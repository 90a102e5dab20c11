//! Requests that wait for units which have to be asked for: once, however many wait.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::core::error::Error;

/// Something that has units in hand, and asks for more where all instances take theirs from.
pub(super) trait Supply: Send + Sync + 'static {
    /// What the units are taken of.
    type Limit: Copy + Send + Sync + 'static;
    type Answer;

    fn line(&self) -> &Line;
    /// Takes units from those in hand, or says that there are no others.
    fn take(&self, limit: Self::Limit, units: u64) -> Taken<Self::Answer>;
    /// Asks for more.
    fn refill(&self, limit: Self::Limit) -> impl Future<Output = Result<(), Error>> + Send;
    /// Has it done, whoever waits for it.
    fn spawn(&self, refill: impl Future<Output = ()> + Send + 'static);
}

/// What comes of taking from what is in hand.
pub(super) enum Taken<A> {
    Done(A),
    /// The same, and soon nothing is left.
    NearlyOut(A),
    /// There may be more, but not in hand.
    Ask,
}

/// Takes units, and waits for them if they have to be asked for.
pub(super) async fn take<S: Supply>(
    supply: &Arc<S>,
    limit: S::Limit,
    units: u64,
) -> Result<S::Answer, Error> {
    if let Some(answer) = take_now(supply, limit, units) {
        return Ok(answer);
    }
    let _place = supply.line().join(units);
    loop {
        let mut landed = ask(supply, limit);
        let landed = landed.wait_for(Option::is_some).await;
        let given_up = || Err(Error::Unavailable("a refill was given up".into()));
        landed
            .ok()
            .and_then(|done| done.clone())
            .unwrap_or_else(given_up)?;
        if let Some(answer) = take_now(supply, limit, units) {
            return Ok(answer);
        }
    }
}

/// Takes units from what is in hand.
fn take_now<S: Supply>(supply: &Arc<S>, limit: S::Limit, units: u64) -> Option<S::Answer> {
    match supply.take(limit, units) {
        Taken::Done(answer) => Some(answer),
        Taken::NearlyOut(answer) => {
            drop(ask(supply, limit));
            Some(answer)
        }
        Taken::Ask => None,
    }
}

type Landed = watch::Receiver<Option<Result<(), Error>>>;

/// Asks for more, unless somebody does.
fn ask<S: Supply>(supply: &Arc<S>, limit: S::Limit) -> Landed {
    let mut queue = supply.line().queue();
    if let Some(landed) = &queue.flight {
        return landed.clone();
    }
    let (sender, landed) = watch::channel(None);
    queue.flight = Some(landed.clone());
    let flight = Flight {
        supply: supply.clone(),
        sender,
    };
    // It goes on if nobody waits for it any more: what it takes must come into a hand.
    supply.spawn(async move {
        let done = flight.supply.refill(limit).await;
        flight.supply.line().queue().flight = None;
        flight.sender.send_replace(Some(done));
    });
    landed
}

/// A refill under way. However it ends, the next can begin.
struct Flight<S: Supply> {
    supply: Arc<S>,
    sender: watch::Sender<Option<Result<(), Error>>>,
}

impl<S: Supply> Drop for Flight<S> {
    fn drop(&mut self) {
        let ours = self.sender.subscribe();
        let mut queue = self.supply.line().queue();
        let is_ours = |landed: &Landed| landed.same_channel(&ours);
        if queue.flight.as_ref().is_some_and(is_ours) {
            queue.flight = None;
        }
    }
}

/// Who waits, and whether more is asked for.
#[derive(Default)]
pub(super) struct Line(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// How many wait for so many units each.
    waiting: BTreeMap<u64, usize>,
    flight: Option<Landed>,
}

impl Line {
    /// The least that anybody waits for, and what all of them do. Who only looks waits for nothing.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let queue = self.queue();
        let least = queue.waiting.keys().find(|units| **units > 0);
        let least = least.copied().unwrap_or(0);
        let sum = |sum: u64, (units, count): (&u64, &usize)| {
            sum.saturating_add(units.saturating_mul(*count as u64))
        };
        (least, queue.waiting.iter().fold(0, sum))
    }

    fn join(&self, units: u64) -> Place<'_> {
        *self.queue().waiting.entry(units).or_default() += 1;
        Place { line: self, units }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place<'a> {
    line: &'a Line,
    units: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.line.queue();
        if let Some(count) = queue.waiting.get_mut(&self.units) {
            *count -= 1;
            if *count == 0 {
                queue.waiting.remove(&self.units);
            }
        }
    }
}
