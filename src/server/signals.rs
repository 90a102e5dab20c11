//! Signal handling: signals that start a shutdown, and harmless signals that must not end the process.
//!
//! The table of all signals for operators is in `docs/operations.md`.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time after a shutdown signal in which further ones are ignored as repeats. A terminal sends SIGINT to all of its
/// processes, and a wrapper forwards the signal that it received: one request to shut down then arrives twice.
const REPEATS_IGNORED: Duration = Duration::from_secs(1);

/// Number of SIGXFSZ, which the system sends to a process that writes past a limit on file sizes. If it is caught, the
/// write fails with `EFBIG`, which is handled like a full disk. POSIX leaves the number open; Linux and macOS use 25.
const XFSZ: i32 = 25;

/// Returns the signals that end a process by default but are no request to shut down.
fn harmless_signals() -> [(&'static str, SignalKind); 4] {
    [
        ("SIGHUP", SignalKind::hangup()),
        ("SIGUSR1", SignalKind::user_defined1()),
        ("SIGUSR2", SignalKind::user_defined2()),
        ("SIGXFSZ", SignalKind::from_raw(XFSZ)),
    ]
}

/// Catches the harmless signals from now until the process ends. Call it before the start of the service, which may
/// wait long for the database.
pub fn ignore_harmless_signals() -> io::Result<()> {
    // The handlers outlive this runtime: tokio never restores the default action of a signal.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = runtime.enter();
    for (_, kind) in harmless_signals() {
        drop(signal(kind)?);
    }
    Ok(())
}

/// Logs each harmless signal as ignored, except SIGHUP, which reloads the certificate.
pub(super) fn log_ignored() -> io::Result<()> {
    for (name, kind) in harmless_signals() {
        if kind == SignalKind::hangup() {
            continue;
        }
        let mut received = signal(kind)?;
        actix_web::rt::spawn(async move {
            while received.recv().await.is_some() {
                tracing::info!("ignored {name}: the service does not use this signal");
            }
        });
    }
    Ok(())
}

/// Signals that start a shutdown: SIGTERM, SIGINT, and SIGALRM, which a wrapper sets to limit the run time.
pub(super) struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
    alarm: Signal,
}

impl ShutdownSignals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            alarm: signal(SignalKind::alarm())?,
        })
    }

    /// Waits for the next shutdown signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.alarm.recv() => {}
        }
    }

    /// Waits for a shutdown signal that is not a repeat of the one received at `first`.
    pub(super) async fn next_after_repeats(&mut self, first: Instant) {
        loop {
            self.next().await;
            if first.elapsed() >= REPEATS_IGNORED {
                return;
            }
            tracing::info!(
                "ignored a repeated signal: send it again {} s after the first to end the process at once",
                REPEATS_IGNORED.as_secs()
            );
        }
    }
}
