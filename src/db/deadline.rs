//! The deadline of the work that a thread does on the database.

use std::{cell::Cell, time::Instant};

thread_local! {
    static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does work whose statements must end by `deadline`: PostgreSQL's connection is shut then, and SQLite
/// interrupts what it does.
pub(super) fn until<T>(deadline: Instant, work: impl FnOnce() -> T) -> T {
    let _before = Restore(CURRENT.replace(Some(deadline)));
    work()
}

/// The deadline of what this thread does. `None` if there is none.
pub(super) fn current() -> Option<Instant> {
    CURRENT.get()
}

struct Restore(Option<Instant>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
