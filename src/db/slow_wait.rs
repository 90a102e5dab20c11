//! Waits at the start say what they wait for when they last.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// A wait that is shorter needs no explanation.
const SILENT_FOR: Duration = Duration::from_secs(2);
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Does `work`, which waits for something, and meanwhile says for what: after two seconds and then
/// every 30, in the log, or on standard error where nothing is logged.
pub(crate) fn announced<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let announce = move || {
            let mut silence = SILENT_FOR;
            while is_done.recv_timeout(silence) == Err(RecvTimeoutError::Timeout) {
                announce(what);
                silence = REPEAT_AFTER;
            }
        };
        // Without a thread the wait is silent.
        let _ = thread::Builder::new().spawn_scoped(scope, announce);
        // Dropped when the work has ended, however it does.
        let _done = done;
        work()
    })
}

fn announce(what: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::info!("still waiting for {what}");
    } else {
        eprintln!("latchkey: still waiting for {what}");
    }
}
