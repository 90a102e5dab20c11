//! The connection to Redis or Valkey, where instances count together. No other module uses a Redis client.

mod login_attempts;
mod tokens;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, trace::SpanKind};
use redis::{
    AsyncConnectionConfig, Client, RedisError, Script, ScriptInvocation, aio::MultiplexedConnection,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

pub(crate) use self::{
    login_attempts::{LoginPermit, LoginStep, LoginSubject},
    tokens::TokenRequest,
};
use crate::{config::RedisUrl, telemetry::traces};

/// Deadline of each command. When one misses it, Redis counts as unreachable for all requests until it
/// responds to a probe. It is shorter than the time that requests wait for tokens, so that they learn of it.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(40);
/// Deadline for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// First and longest pause between attempts to connect. The pause doubles each time, so that a Redis that
/// comes and goes is left alone for longer.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(4);
/// Age from which a connection counts as stable: its loss resets the pause.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Interval between probes of a connection. Proxies and firewalls drop idle connections.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Commands in flight and waiting to be sent, at most.
const PIPELINE: usize = 1024;

/// Prefix of the scripts: the time of Redis, since the clock of an instance may be wrong.
const NOW: &str = "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";
const TAKE: &str = include_str!("take.lua");
const ATTEMPT: &str = include_str!("attempt.lua");

/// Counters that all instances share. Clones share the connection.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    take_script: Script,
    login_script: Script,
    connection: watch::Sender<ConnectionState>,
    /// Copy of `connection`'s state for the hot path.
    is_unreachable: AtomicBool,
    /// Number of the latest connection; the first is 1.
    number: AtomicU64,
    /// Commands that failed or were late, and failed attempts to connect.
    errors: AtomicU64,
    /// Requests for tokens that were granted some.
    allotments: AtomicU64,
}

#[derive(Clone)]
enum ConnectionState {
    /// The first attempt has not ended.
    Connecting,
    /// With the number of the connection, which tells it from earlier ones.
    Up(u64, MultiplexedConnection),
    Unreachable(Arc<str>),
}

/// Error raised when the URL cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot be read; give redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, with user name \
     and password percent-encoded"
)]
pub struct InvalidRedisUrl;

/// Error raised when Redis did not respond. The cause is in the log.
#[derive(Debug)]
pub(crate) struct Unreachable;

impl Redis {
    /// Prepares a connection. [`Redis::keep`] connects.
    pub fn new(url: &RedisUrl) -> Result<Self, InvalidRedisUrl> {
        // What the error says may be a part of the URL, and that a secret.
        let client = Client::open(url.expose()).map_err(|_| InvalidRedisUrl)?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                take_script: Script::new(&[NOW, TAKE].concat()),
                login_script: Script::new(&[NOW, ATTEMPT].concat()),
                connection: watch::Sender::new(ConnectionState::Connecting),
                is_unreachable: AtomicBool::new(false),
                number: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                allotments: AtomicU64::new(0),
            }),
        })
    }

    /// Returns whether a connection is up.
    pub fn is_connected(&self) -> bool {
        matches!(*self.shared.connection.borrow(), ConnectionState::Up(..))
    }

    /// Returns the number of failed commands and of failed attempts to connect.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// Returns the number of requests for tokens that were granted some.
    pub fn allotments(&self) -> u64 {
        self.shared.allotments.load(Ordering::Relaxed)
    }

    /// Returns whether a command has a chance of a response.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.shared.is_unreachable.load(Ordering::Relaxed)
    }

    /// Returns the number of the latest connection.
    pub(crate) fn connection_number(&self) -> u64 {
        self.shared.number.load(Ordering::Relaxed)
    }

    async fn invoke<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(T, u64), Unreachable> {
        let system = || KeyValue::new("db.system.name", "redis");
        traces::within(SpanKind::Client, "redis", system, self.ask(script)).await
    }

    async fn ask<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(T, u64), Unreachable> {
        let mut number = None;
        let answer = timeout(RESPONSE_TIMEOUT, async {
            let mut link = self.shared.connection.subscribe();
            let known = |link: &ConnectionState| !matches!(link, ConnectionState::Connecting);
            let link = link.wait_for(known).await.map_err(|_| None)?.clone();
            let ConnectionState::Up(this, mut connection) = link else {
                return Err(None);
            };
            number = Some(this);
            let answer = script.invoke_async(&mut connection).await;
            answer.map(|answer| (answer, this)).map_err(Some)
        });
        let cause = match answer.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(None)) => return Err(Unreachable),
            Ok(Err(Some(error))) => error.to_string(),
            Err(_) => format!("no response within {RESPONSE_TIMEOUT:?}"),
        };
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
        if let Some(number) = number {
            self.shared.lose(number, cause);
        }
        Err(Unreachable)
    }

    /// Connects, and connects again after each loss. Never returns.
    pub(crate) async fn keep(&self) {
        let mut is_logged = false;
        let mut pause = FIRST_RETRY;
        loop {
            let cause = match self.shared.connect().await {
                Ok(connection) => {
                    if std::mem::take(&mut is_logged) {
                        tracing::info!(
                            "connected to Redis again: rate limits are shared by all instances"
                        );
                    }
                    let since = Instant::now();
                    let cause = self.shared.use_until_lost(connection).await;
                    if since.elapsed() >= STABLE_AFTER {
                        pause = FIRST_RETRY;
                        // Perhaps only the connection was lost, and not Redis.
                        tracing::debug!(cause = &*cause, "connection to Redis lost");
                        continue;
                    }
                    cause
                }
                Err(cause) => {
                    self.shared.errors.fetch_add(1, Ordering::Relaxed);
                    self.shared.note_unreachable(&cause);
                    cause
                }
            };
            if !std::mem::replace(&mut is_logged, true) {
                let cause = &*cause;
                tracing::warn!(
                    cause,
                    "cannot reach Redis: each instance enforces its share of the rate limits"
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }
}

impl Shared {
    /// Opens a connection, loads the scripts, and probes it.
    async fn connect(&self) -> Result<MultiplexedConnection, Arc<str>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT))
            .set_pipeline_buffer_size(PIPELINE);
        let connect = async {
            let client = &self.client;
            let connection = client.get_multiplexed_async_connection_with_config(&config);
            let mut connection = connection.await?;
            self.take_script.load_async(&mut connection).await?;
            self.login_script.load_async(&mut connection).await?;
            Ok(connection)
        };
        let connected = match timeout(2 * CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|error: RedisError| error.to_string()),
            Err(_) => Err(format!("no response within {:?}", 2 * CONNECT_TIMEOUT)),
        };
        let mut connection = connected?;
        probe(&mut connection).await?;
        Ok(connection)
    }

    /// Shares a connection until it is lost. Returns the cause.
    async fn use_until_lost(&self, mut connection: MultiplexedConnection) -> Arc<str> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let used = connection.clone();
        self.connection
            .send_replace(ConnectionState::Up(number, used));
        self.is_unreachable.store(false, Ordering::Relaxed);
        let mut link = self.connection.subscribe();
        loop {
            let away = |link: &ConnectionState| matches!(link, ConnectionState::Unreachable(_));
            let lost = timeout(PROBE_INTERVAL, link.wait_for(away)).await;
            if let Ok(Ok(link)) = lost
                && let ConnectionState::Unreachable(cause) = &*link
            {
                return cause.clone();
            }
            if let Err(cause) = probe(&mut connection).await {
                self.errors.fetch_add(1, Ordering::Relaxed);
                self.lose(number, cause);
            }
        }
    }

    fn note_unreachable(&self, cause: &Arc<str>) {
        self.is_unreachable.store(true, Ordering::Relaxed);
        self.connection
            .send_replace(ConnectionState::Unreachable(cause.clone()));
    }

    /// Marks a connection as lost.
    fn lose(&self, number: u64, cause: String) {
        self.connection.send_if_modified(|link| {
            let is_it = matches!(link, ConnectionState::Up(current, _) if *current == number);
            if is_it {
                self.is_unreachable.store(true, Ordering::Relaxed);
                *link = ConnectionState::Unreachable(cause.into());
            }
            is_it
        });
    }
}

/// Writes a key, within the deadline. A read would not find out replicas, or a server without free memory.
async fn probe(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let mut probe = redis::cmd("SET");
    probe.arg("latchkey:probe").arg(1).arg("PX").arg(1000);
    match timeout(RESPONSE_TIMEOUT, probe.exec_async(connection)).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no response within {RESPONSE_TIMEOUT:?}")),
    }
}
