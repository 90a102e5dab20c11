//! Graceful shutdown: every received request gets its response, and the process ends in time.
//!
//! 1. Drain. The service is no longer ready, and each response is the last on its connection. New connections are still
//!    accepted, because load balancers need some time to notice.
//! 2. Close. Only connections that already wait to be accepted are accepted. Idle connections are closed.
//! 3. End. Connections that are still open at the deadline are closed. Then the lease is released, and pending counts
//!    are written.
//!
//! A second signal, at least one second after the first, skips the rest of steps 1 and 2, and bounds step 3.

use std::{
    io::{self, Write as _},
    mem::ManuallyDrop,
    net::TcpListener,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use actix_web::dev::ServerHandle;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    time::{sleep, sleep_until, timeout_at},
};

use super::{
    Server,
    admission::Admission,
    listen,
    signals::{self, ShutdownSignals},
    tls::Tls,
};
use crate::{config::HttpConfig, shutdown::Shutdown};

/// Times allowed for the parts of a shutdown, counted from its signal.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShutdownTimes {
    pub drain: Duration,
    pub total: Duration,
}

impl ShutdownTimes {
    pub(super) fn of(config: &HttpConfig) -> Self {
        Self {
            drain: config.drain_duration,
            total: config.shutdown_timeout,
        }
    }

    /// Time for open requests. The rest is reserved for writing pending data.
    fn responses(&self) -> Duration {
        self.total.mul_f32(0.7)
    }

    /// Time for the whole shutdown, slightly less than the time after which the process exits unconditionally.
    fn orderly_end(&self) -> Duration {
        self.total.mul_f32(0.95)
    }
}

/// Interval between checks for open connections.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Time without an accepted connection after which none is considered to wait in the accept queue.
const QUIET_PERIOD: Duration = Duration::from_millis(50);

/// Time for the rest of the shutdown after a second signal. The database needs milliseconds to write the counts. If it
/// does not respond, the operator who wants the process to end should not have to wait for it.
const FORCED_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum wait for the worker threads to drop their connections after the server has stopped.
const DROP_TIMEOUT: Duration = Duration::from_millis(200);

/// Handles that a graceful shutdown needs.
pub(super) struct GracefulShutdown {
    pub listener: TcpListener,
    pub admission: Arc<Admission>,
    pub shutdown: Shutdown,
    pub times: ShutdownTimes,
}

impl GracefulShutdown {
    /// Stops the server once no connection is open, at the deadline for responses, or when `forced` becomes true.
    async fn run(
        self,
        server: ServerHandle,
        signalled_at: Instant,
        mut forced: watch::Receiver<bool>,
    ) {
        tokio::select! {
            () = self.finish_requests(signalled_at) => {}
            Ok(_) = forced.wait_for(|forced| *forced) => {}
        }
        // The call itself sends the command; its future only waits until the server has stopped.
        drop(server.stop(false));
    }

    async fn finish_requests(&self, signalled_at: Instant) {
        let deadline = signalled_at + self.times.responses();
        sleep_until((signalled_at + self.times.drain).min(deadline).into()).await;
        if let Err(error) = listen::reject_new_connections(&self.listener) {
            tracing::debug!(%error, "failed to reject new connections during shutdown");
        }
        let (mut attempts, mut quiet_since) = (self.admission.attempts(), Instant::now());
        while quiet_since.elapsed() < QUIET_PERIOD && Instant::now() < deadline {
            sleep(POLL_INTERVAL).await;
            if self.admission.attempts() != attempts {
                (attempts, quiet_since) = (self.admission.attempts(), Instant::now());
            }
        }
        self.shutdown.close_idle();
        while self.admission.open() > 0 && Instant::now() < deadline {
            sleep(POLL_INTERVAL).await;
        }
        let connections = self.admission.open();
        if connections > 0 {
            tracing::warn!(
                connections,
                "closing connections that are still open: 70 % of SHUTDOWN_SECONDS have passed"
            );
        }
    }
}

impl Server {
    /// Serves until a shutdown signal, then shuts down gracefully. A second signal, at least a second after the first,
    /// ends the server at once. SIGHUP reloads the certificate. The module [`signals`] lists the signals.
    ///
    /// # Errors
    ///
    /// The server failed, or the shutdown did not complete in time. The text names the number of lost counts.
    pub fn run_until_signalled(self) -> io::Result<()> {
        // Never dropped: that would wait for threads that are blocked on the database, which have nothing left to do.
        // They end with the process.
        let system = ManuallyDrop::new(actix_web::rt::System::new());
        system.block_on(async {
            let mut shutdown_signals = ShutdownSignals::listen()?;
            signals::log_ignored()?;
            let hangup = signal(SignalKind::hangup())?;
            actix_web::rt::spawn(reload_certificate_on(hangup, self.edge.tls.clone()));
            let (graceful, state) = (self.graceful_shutdown()?, self.state.clone());
            let (sender, handle) = oneshot::channel();
            let mut server = std::pin::pin!(self.run(|handle| {
                let _ = sender.send(handle);
            }));
            tokio::select! {
                ended = &mut server => return ended,
                () = shutdown_signals.next() => {}
            }
            tracing::info!("shutting down");
            let (signalled_at, times) = (Instant::now(), graceful.times);
            graceful.shutdown.begin();
            exit_process_after(times.total);
            let admission = graceful.admission.clone();
            let (force, forced) = watch::channel(false);
            let ending = async {
                let stopped = async {
                    if let Ok(handle) = handle.await {
                        graceful.run(handle, signalled_at, forced).await;
                    }
                };
                tokio::join!(server, stopped).0
            };
            let deadline = signalled_at + times.orderly_end();
            let mut ending = std::pin::pin!(timeout_at(deadline.into(), ending));
            let forced_deadline = tokio::select! {
                ended = &mut ending => return ended.unwrap_or_else(|_| {
                    Err(lost_counts(TIMED_OUT, state.engine.usage().left()))
                }),
                () = shutdown_signals.next_after_repeats(signalled_at) => {
                    Instant::now() + FORCED_SHUTDOWN_TIMEOUT
                }
            };
            let forced_end = format!(
                "stopped at once by a second signal, with {} connections open",
                admission.open()
            );
            force.send_replace(true);
            Err(match timeout_at(forced_deadline.into(), ending).await {
                Ok(Ok(Ok(()))) => io::Error::other(forced_end),
                Ok(Ok(Err(error))) => io::Error::other(format!("{forced_end}; {error}")),
                Ok(Err(_)) | Err(_) => lost_counts(&forced_end, state.engine.usage().left()),
            })
        })
    }
}

/// Waits briefly until the worker threads have dropped their connections, so that the counts of the last requests are
/// written as well.
pub(super) async fn await_dropped_connections(admission: &Admission) {
    let deadline = Instant::now() + DROP_TIMEOUT;
    while admission.open() > 0 && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
}

/// Returns the error of a shutdown that ended before the database accepted all counts.
fn lost_counts(reason: &str, counts: u64) -> io::Error {
    io::Error::other(match counts {
        0 => reason.to_owned(),
        _ => format!(
            "{reason}; lost up to {counts} counted checks, which the database did not accept in time"
        ),
    })
}

async fn reload_certificate_on(mut hangup: Signal, tls: Option<Arc<Tls>>) {
    while hangup.recv().await.is_some() {
        let Some(tls) = tls.clone() else {
            tracing::info!("ignored SIGHUP: no certificate to reload, since TLS_CERT is not set");
            continue;
        };
        // File I/O blocks.
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
}

const TIMED_OUT: &str = "stopped before the shutdown was complete: SHUTDOWN_SECONDS have passed";

/// Exits the process after this time. A blocked thread cannot be interrupted in another way.
fn exit_process_after(time: Duration) {
    thread::spawn(move || {
        thread::sleep(time);
        // Not `eprintln!`: it panics if stderr is closed, and the process would never exit.
        let _ = writeln!(io::stderr(), "latchkey: {TIMED_OUT}");
        std::process::exit(1);
    });
}
