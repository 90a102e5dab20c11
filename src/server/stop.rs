//! Stopping in order: not one request is lost that came in, and it is over in time.
//!
//! 1. The service is no longer ready, and each answer is the last on its connection. New connections
//!    are still taken: it takes whoever sends them a while to notice.
//! 2. Nobody is let in any more but who already waits to be. Connections end once nothing happens on
//!    them.
//! 3. What is still open when the time for it is up is cut off. Then the lease is given back, and what
//!    is counted is written.

use std::{
    io,
    mem::ManuallyDrop,
    net::TcpListener,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use actix_web::dev::ServerHandle;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{sleep, sleep_until, timeout_at},
};

use super::{Server, admission::Admission, listen, tls::Tls};
use crate::core::{config::HttpConfig, stopping::Stopping};

/// When each part of a stop has to be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopTimes {
    pub drain: Duration,
    pub total: Duration,
}

impl StopTimes {
    pub(super) fn of(config: &HttpConfig) -> Self {
        Self {
            drain: config.drain_time,
            total: config.shutdown_time,
        }
    }

    /// For answers, and the rest for what is to be written.
    fn answers(&self) -> Duration {
        self.total.mul_f32(0.7)
    }

    /// A moment before the process is ended whatever it does.
    fn everything(&self) -> Duration {
        self.total.mul_f32(0.95)
    }
}

/// How often it looks whether there is still somebody.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Nobody waits to be accepted any more when nobody was for so long.
const QUIET: Duration = Duration::from_millis(50);

/// What has to be stopped.
pub(super) struct Stop {
    pub listener: TcpListener,
    pub admission: Arc<Admission>,
    pub stopping: Stopping,
    pub times: StopTimes,
}

impl Stop {
    /// Ends the server once nobody is left on it, or there is no more time.
    async fn answer_what_came(self, server: ServerHandle, told: Instant) {
        let until = told + self.times.answers();
        sleep_until((told + self.times.drain).min(until).into()).await;
        if let Err(error) = listen::turn_newcomers_away(&self.listener) {
            tracing::debug!(%error, "cannot keep newcomers out");
        }
        let (mut admitted, mut quiet_since) = (self.admission.admitted(), Instant::now());
        while quiet_since.elapsed() < QUIET && Instant::now() < until {
            sleep(LOOK_EVERY).await;
            if self.admission.admitted() != admitted {
                (admitted, quiet_since) = (self.admission.admitted(), Instant::now());
            }
        }
        self.stopping.close_idle();
        while self.admission.open() > 0 && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        let connections = self.admission.open();
        if connections > 0 {
            tracing::warn!(connections, "no time left for them");
        }
        // Sent by this call; the future only waits for the end.
        drop(server.stop(false));
    }
}

impl Server {
    /// Serves until SIGINT or SIGTERM, which lets it stop in order; a second one ends it at once. On
    /// SIGHUP it reads its certificate again.
    pub fn run_until_signalled(self) -> io::Result<()> {
        // Never dropped: that would wait for threads that wait for the database, and nothing is left for
        // them to do. They end with the process.
        let system = ManuallyDrop::new(actix_web::rt::System::new());
        system.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut signalled = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            // Held until the process ends: a late one must not end it, nor one that finds no certificate.
            let hangup = signal(SignalKind::hangup())?;
            actix_web::rt::spawn(reload_on(hangup, self.edge.tls.clone()));
            let stop = self.stop()?;
            let (sender, handle) = oneshot::channel();
            let mut server = std::pin::pin!(self.run(|handle| {
                let _ = sender.send(handle);
            }));
            tokio::select! {
                ended = &mut server => return ended,
                () = signalled() => {}
            }
            tracing::info!("stopping");
            let (told, times) = (Instant::now(), stop.times);
            stop.stopping.begin();
            end_process_after(times.total);
            let orderly = async {
                let stopped = async {
                    if let Ok(handle) = handle.await {
                        stop.answer_what_came(handle, told).await;
                    }
                };
                tokio::join!(server, stopped).0
            };
            tokio::select! {
                ended = timeout_at((told + times.everything()).into(), orderly) => ended.unwrap_or_else(|_| {
                    Err(io::Error::other(OUT_OF_TIME))
                }),
                () = signalled() => Err(io::Error::other("stopped before all was answered")),
            }
        })
    }
}

async fn reload_on(mut hangup: Signal, tls: Option<Arc<Tls>>) {
    while hangup.recv().await.is_some() {
        let Some(tls) = tls.clone() else {
            tracing::info!("SIGHUP changes nothing: there is no TLS_CERT to read again");
            continue;
        };
        // Reading files blocks.
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
}

const OUT_OF_TIME: &str = "stopped before all was done: SHUTDOWN_SECONDS were over";

/// Whatever hangs cannot be interrupted; the process can.
fn end_process_after(time: Duration) {
    thread::spawn(move || {
        thread::sleep(time);
        eprintln!("latchkey: {OUT_OF_TIME}");
        std::process::exit(1);
    });
}
