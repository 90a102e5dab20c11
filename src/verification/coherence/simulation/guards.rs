//! Guards of the simulation: all but one, and pauses between the steps of a lookup.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
};

use crate::verification::guard::{Guard, Guards};

/// Starts a pause.
pub(super) type Pause = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

thread_local! {
    static PAUSE: RefCell<Option<Pause>> = const { RefCell::new(None) };
    static DISABLED: Cell<Option<Guard>> = const { Cell::new(None) };
}

/// Guards as [`with_disabled`] and [`with_pause`] set them for this thread.
pub(super) struct SimulatedGuards;

impl Guards for SimulatedGuards {
    fn enforces(guard: Guard) -> bool {
        DISABLED.get() != Some(guard)
    }

    async fn pause() {
        let pause = PAUSE.with_borrow(|pause| pause.as_ref().map(|pause| pause()));
        if let Some(pause) = pause {
            pause.await;
        }
    }
}

/// Runs a function in which lookups pause like this.
pub(super) fn with_pause<T>(pause: Pause, run: impl FnOnce() -> T) -> T {
    PAUSE.set(Some(pause));
    let result = run();
    PAUSE.set(None);
    result
}

/// Runs a function with this guard disabled.
pub(super) fn with_disabled<T>(guard: Option<Guard>, run: impl FnOnce() -> T) -> T {
    DISABLED.set(guard);
    let result = run();
    DISABLED.set(None);
    result
}
