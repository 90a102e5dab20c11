//! Signals: which of them are orders, and which must not end the process.
//!
//! The table for operators is in `docs/operations.md`.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The time after an order to stop during which its repeats are ignored. A terminal sends SIGINT to everyone in it,
/// and a wrapper passes on a signal of its own: that is one order, which arrives twice.
const REPEATS_IGNORED: Duration = Duration::from_secs(1);

/// Sent by the system to whoever writes past a limit on file sizes. Caught, the write fails with
/// `EFBIG`, as on a full disk. POSIX leaves the number open; Linux and macOS have this one.
const XFSZ: i32 = 25;

/// Signals that would end the process by default, and are no order.
fn harmless() -> [(&'static str, SignalKind); 4] {
    [
        ("SIGHUP", SignalKind::hangup()),
        ("SIGUSR1", SignalKind::user_defined1()),
        ("SIGUSR2", SignalKind::user_defined2()),
        ("SIGXFSZ", SignalKind::from_raw(XFSZ)),
    ]
}

/// Catches, from now until the process ends, the signals that must not end it. For the time before the
/// service runs: what starts may wait for the database for long.
pub fn survive_harmless() -> io::Result<()> {
    // Handlers stay when the runtime is gone: tokio never gives a signal back to the system.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = runtime.enter();
    for (_, kind) in harmless() {
        drop(signal(kind)?);
    }
    Ok(())
}

/// Logs each harmless signal that changes nothing. SIGHUP is an order for whoever has a certificate.
pub(super) fn log_ignored() -> io::Result<()> {
    for (name, kind) in harmless() {
        if kind == SignalKind::hangup() {
            continue;
        }
        let mut received = signal(kind)?;
        actix_web::rt::spawn(async move {
            while received.recv().await.is_some() {
                tracing::info!("ignored {name}: it has no meaning here");
            }
        });
    }
    Ok(())
}

/// Orders to stop: SIGTERM, SIGINT, and SIGALRM, which a wrapper sets off that bounds a run time.
pub(super) struct StopOrders {
    terminate: Signal,
    interrupt: Signal,
    alarm: Signal,
}

impl StopOrders {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            alarm: signal(SignalKind::alarm())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.alarm.recv() => {}
        }
    }

    /// Waits for one that is no repeat of the order that was received at `first`.
    pub(super) async fn another(&mut self, first: Instant) {
        loop {
            self.next().await;
            if first.elapsed() >= REPEATS_IGNORED {
                return;
            }
            tracing::info!(
                "ignored a repeated signal: it ends the process at once after {} s",
                REPEATS_IGNORED.as_secs()
            );
        }
    }
}
