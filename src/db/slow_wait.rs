//! Reports slow waits at startup, with the subject of the wait.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// Shortest wait that is reported.
const SILENT_FOR: Duration = Duration::from_secs(2);
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Runs `work`, which waits for `subject`, and reports the wait after 2 seconds and then every 30 seconds.
///
/// The report goes to the log, or to standard error in a command that has no log.
pub(crate) fn log_while_waiting<T>(subject: &str, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let report_waits = move || {
            let mut silence = SILENT_FOR;
            while is_done.recv_timeout(silence) == Err(RecvTimeoutError::Timeout) {
                report(subject);
                silence = REPEAT_AFTER;
            }
        };
        // If the thread cannot be started, the wait is not reported.
        let _ = thread::Builder::new().spawn_scoped(scope, report_waits);
        // Dropped when the work ends, also by a panic.
        let _done = done;
        work()
    })
}

fn report(subject: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::info!("still waiting for {subject}");
    } else {
        eprintln!("latchkey: still waiting for {subject}");
    }
}
