//! Deadline of the database work of the current thread.

use std::{cell::Cell, time::Instant};

thread_local! {
    static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs work whose statements must end by `deadline`.
///
/// At the deadline the connection to PostgreSQL is shut down, or SQLite interrupts its statement.
pub(super) fn until<T>(deadline: Instant, work: impl FnOnce() -> T) -> T {
    let _previous = Restore(CURRENT.replace(Some(deadline)));
    work()
}

/// Returns the deadline of the current thread's work. `None` if it has no deadline.
pub(super) fn current() -> Option<Instant> {
    CURRENT.get()
}

struct Restore(Option<Instant>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
