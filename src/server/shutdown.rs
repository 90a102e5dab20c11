//! Shutdown in order: not one request is lost that came in, and it is over in time.
//!
//! 1. The service is no longer ready, and each answer is the last on its connection. New connections
//!    are still taken: it takes whoever sends them a while to notice.
//! 2. Nobody is let in any more but who already waits to be. ConnectionCounters end once nothing happens on
//!    them.
//! 3. What is still open when the time for it is up is cut off. Then the lease is given back, and what
//!    is counted is written.
//!
//! A second order, later than a second after the first, skips what is left of the first two steps and
//! bounds the third.

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
    signals::{self, StopOrders},
    tls::Tls,
};
use crate::{config::HttpConfig, shutdown::Shutdown};

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

/// The time that an end by a second order may take. The database needs milliseconds for what is counted; where
/// it does not answer, nobody waits for it who wants the process gone.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The longest time that threads take to drop their connections when they are told to.
const DROPPED_WITHIN: Duration = Duration::from_millis(200);

/// What has to be stopped.
pub(super) struct Stop {
    pub listener: TcpListener,
    pub admission: Arc<Admission>,
    pub stopping: Shutdown,
    pub times: StopTimes,
}

impl Stop {
    /// Ends the server once nobody is left on it, there is no more time, or it is to end at once.
    async fn end(self, server: ServerHandle, told: Instant, mut at_once: watch::Receiver<bool>) {
        tokio::select! {
            () = self.answer_what_came(told) => {}
            Ok(_) = at_once.wait_for(|at_once| *at_once) => {}
        }
        // Sent by this call; the future only waits for the end.
        drop(server.stop(false));
    }

    async fn answer_what_came(&self, told: Instant) {
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
    }
}

impl Server {
    /// Serves until it is told to stop in order. A second order, a second later or more, ends it at once.
    /// On SIGHUP it reads its certificate again. Which signals are orders is [`signals`]'s to say.
    pub fn run_until_signalled(self) -> io::Result<()> {
        // Never dropped: that would wait for threads that wait for the database, and nothing is left for
        // them to do. They end with the process.
        let system = ManuallyDrop::new(actix_web::rt::System::new());
        system.block_on(async {
            let mut orders = StopOrders::listen()?;
            signals::log_ignored()?;
            let hangup = signal(SignalKind::hangup())?;
            actix_web::rt::spawn(reload_on(hangup, self.edge.tls.clone()));
            let (stop, state) = (self.stop()?, self.state.clone());
            let (sender, handle) = oneshot::channel();
            let mut server = std::pin::pin!(self.run(|handle| {
                let _ = sender.send(handle);
            }));
            tokio::select! {
                ended = &mut server => return ended,
                () = orders.next() => {}
            }
            tracing::info!("stopping");
            let (told, times) = (Instant::now(), stop.times);
            stop.stopping.begin();
            end_process_after(times.total);
            let admission = stop.admission.clone();
            let (at_once, is_at_once) = watch::channel(false);
            let ending = async {
                let stopped = async {
                    if let Ok(handle) = handle.await {
                        stop.end(handle, told, is_at_once).await;
                    }
                };
                tokio::join!(server, stopped).0
            };
            let mut ending = std::pin::pin!(timeout_at((told + times.everything()).into(), ending));
            let in_time = tokio::select! {
                ended = &mut ending => return ended.unwrap_or_else(|_| {
                    Err(lost(OUT_OF_TIME, state.engine.usage().left()))
                }),
                () = orders.another(told) => Instant::now() + AT_ONCE,
            };
            let cut_off = format!(
                "stopped at once by a second signal, with {} connections open",
                admission.open()
            );
            at_once.send_replace(true);
            Err(match timeout_at(in_time.into(), ending).await {
                Ok(Ok(Ok(()))) => io::Error::other(cut_off),
                Ok(Ok(Err(error))) => io::Error::other(format!("{cut_off}; {error}")),
                Ok(Err(_)) | Err(_) => lost(&cut_off, state.engine.usage().left()),
            })
        })
    }
}

/// Waits a moment for the threads that answered requests to drop what they were cut off from: what they
/// count until then is to be written as well.
pub(super) async fn connections_dropped(admission: &Admission) {
    let until = Instant::now() + DROPPED_WITHIN;
    while admission.open() > 0 && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
}

/// The end came before the database took the counts.
fn lost(why: &str, counts: u64) -> io::Error {
    io::Error::other(match counts {
        0 => why.to_owned(),
        _ => format!(
            "{why}; lost up to {counts} counted checks, which the database did not take in time"
        ),
    })
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
        // Not `eprintln`, which panics, and so would never exit, if nobody reads it any more.
        let _ = writeln!(io::stderr(), "latchkey: {OUT_OF_TIME}");
        std::process::exit(1);
    });
}
