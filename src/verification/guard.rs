//! What keeps the promise that nobody accepts a key which was revoked. Each of these is needed: the
//! simulation leaves out one after the other, and finds a key accepted that should not be.

/// A step, or an order of steps, that is there for that promise alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// KeyCache is trusted only for as long as the lease lasts.
    LeaseEnds,
    /// That is checked before key_cache is looked at: checked after, what was found could be older than
    /// the lease.
    TrustBeforeLook,
    /// What was looked up before something was forgotten is not remembered after it.
    #[cfg(test)]
    FillTicket,
    /// A request does not share a lookup that began before something was forgotten.
    JoinTicket,
    /// The lease counts from before the renewal was asked for, not from when all was answered.
    LeaseFromAsking,
    /// A renewal reads what was changed before it is trusted.
    TrustAfterNews,
    /// What was changed is read after the instance is known to the others.
    NewsAfterRenewal,
    /// What was changed is forgotten before that is acknowledged.
    ForgetBeforeAck,
    /// Who does not know what was changed forgets everything.
    ForgetUnknown,
    /// A change waits for those who have not acknowledged it.
    #[cfg(test)]
    WaitForAcks,
    /// Who is waited for is read after the change is committed.
    #[cfg(test)]
    ListAfterCommit,
    /// A lease is waited for longer than it is, since clocks differ.
    DriftMargin,
    /// Who repeats a change that was made already waits as well.
    #[cfg(test)]
    WaitToRepeat,
    /// An instance is taken for dead no sooner than its lease is over.
    DeadAfterLease,
    /// Who leaves stops trusting its key_cache first.
    LeaveDistrusts,
}

/// Whether it is there: always, but in a simulation.
#[cfg(not(test))]
pub(super) const fn holds(_: Guard) -> bool {
    true
}

#[cfg(test)]
pub(super) use simulated::holds;

#[cfg(test)]
pub(super) mod simulated {
    use std::{
        cell::{Cell, RefCell},
        pin::Pin,
        rc::Rc,
    };

    use super::Guard;

    pub(in crate::verification) type Pause = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

    thread_local! {
        static PAUSE: RefCell<Option<Pause>> = const { RefCell::new(None) };
        static LEFT_OUT: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Whether it is there in this thread.
    pub(in crate::verification) fn holds(guard: Guard) -> bool {
        LEFT_OUT.get() != Some(guard)
    }

    /// A place where the process may stand still, as it may anywhere.
    pub(in crate::verification) async fn pause() {
        let pause = PAUSE.with_borrow(|pause| pause.as_ref().map(|pause| pause()));
        if let Some(pause) = pause {
            pause.await;
        }
    }

    /// Does something while processes may stand still like this.
    pub(in crate::verification) fn pausing<T>(pause: Pause, run: impl FnOnce() -> T) -> T {
        PAUSE.set(Some(pause));
        let done = run();
        PAUSE.set(None);
        done
    }

    /// Does something without it.
    pub(in crate::verification) fn without<T>(guard: Option<Guard>, run: impl FnOnce() -> T) -> T {
        LEFT_OUT.set(guard);
        let done = run();
        LEFT_OUT.set(None);
        done
    }
}
