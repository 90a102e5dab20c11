//! Connection to Redis or Valkey, which holds the counters that all instances share. No other module uses a Redis
//! client.

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
/// responds to a probe. It is shorter than the time that requests wait for tokens, so that they notice the failure.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(40);
/// Deadline for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// First and longest pause between attempts to connect. The pause doubles each time, so that an unstable Redis gets
/// fewer attempts.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(4);
/// Age from which a connection counts as stable: its loss resets the pause.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Interval between probes of a connection. Proxies and firewalls drop idle connections.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum number of commands in flight and waiting to be sent.
const MAX_PIPELINED_COMMANDS: usize = 1024;

/// Text in front of the scripts. It defines `now` by the clock of Redis, since the clock of an instance may be wrong.
const TIME_PREAMBLE: &str = "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";
const TAKE_SCRIPT: &str = include_str!("take.lua");
const LOGIN_SCRIPT: &str = include_str!("attempt.lua");

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
    /// The first attempt to connect has not ended.
    Connecting,
    /// Connected, with the number of the connection, which distinguishes it from earlier ones.
    Up(u64, MultiplexedConnection),
    Unreachable(Arc<str>),
}

/// Error raised when the URL cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error(
    "is not a valid URL; set redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, with user name \
     and password percent-encoded"
)]
pub struct InvalidRedisUrl;

/// Error raised when Redis did not respond. The cause is in the log.
#[derive(Debug)]
pub(crate) struct Unreachable;

impl Redis {
    /// Prepares a connection. [`Redis::keep`] connects.
    pub fn new(url: &RedisUrl) -> Result<Self, InvalidRedisUrl> {
        // The error is dropped: it may quote a part of the URL, which may contain the password.
        let client = Client::open(url.expose()).map_err(|_| InvalidRedisUrl)?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                take_script: Script::new(&[TIME_PREAMBLE, TAKE_SCRIPT].concat()),
                login_script: Script::new(&[TIME_PREAMBLE, LOGIN_SCRIPT].concat()),
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

    /// Returns false while Redis counts as unreachable, from a failed command to the next successful connection.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.shared.is_unreachable.load(Ordering::Relaxed)
    }

    /// Returns the number of the latest connection.
    pub(crate) fn connection_number(&self) -> u64 {
        self.shared.number.load(Ordering::Relaxed)
    }

    /// Runs a script in a span of its own. Returns also the number of the connection that was used.
    async fn invoke<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(T, u64), Unreachable> {
        let system = || KeyValue::new("db.system.name", "redis");
        traces::in_span(SpanKind::Client, "redis", system, self.send(script)).await
    }

    async fn send<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(T, u64), Unreachable> {
        let mut number = None;
        let response = timeout(RESPONSE_TIMEOUT, async {
            let mut state = self.shared.connection.subscribe();
            let is_decided =
                |state: &ConnectionState| !matches!(state, ConnectionState::Connecting);
            let state = state.wait_for(is_decided).await.map_err(|_| None)?.clone();
            let ConnectionState::Up(current_number, mut connection) = state else {
                return Err(None);
            };
            number = Some(current_number);
            let response = script.invoke_async(&mut connection).await;
            response
                .map(|response| (response, current_number))
                .map_err(Some)
        });
        let cause = match response.await {
            Ok(Ok(response)) => return Ok(response),
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
        let mut pause = FIRST_RETRY_PAUSE;
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
                        pause = FIRST_RETRY_PAUSE;
                        // Reconnect at once: Redis itself may be fine, and only the connection lost.
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
            pause = (pause * 2).min(LONGEST_RETRY_PAUSE);
        }
    }
}

impl Shared {
    /// Opens a connection, loads the scripts, and probes it.
    async fn connect(&self) -> Result<MultiplexedConnection, Arc<str>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT))
            .set_pipeline_buffer_size(MAX_PIPELINED_COMMANDS);
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
        let shared_connection = connection.clone();
        self.connection
            .send_replace(ConnectionState::Up(number, shared_connection));
        self.is_unreachable.store(false, Ordering::Relaxed);
        let mut state = self.connection.subscribe();
        loop {
            let is_unreachable =
                |state: &ConnectionState| matches!(state, ConnectionState::Unreachable(_));
            let lost = timeout(PROBE_INTERVAL, state.wait_for(is_unreachable)).await;
            if let Ok(Ok(state)) = lost
                && let ConnectionState::Unreachable(cause) = &*state
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
        self.connection.send_if_modified(|state| {
            let is_current = matches!(state, ConnectionState::Up(current, _) if *current == number);
            if is_current {
                self.is_unreachable.store(true, Ordering::Relaxed);
                *state = ConnectionState::Unreachable(cause.into());
            }
            is_current
        });
    }
}

/// Writes a key, within the deadline. A read would not detect a read-only replica or a server without free memory.
async fn probe(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let mut probe = redis::cmd("SET");
    probe.arg("latchkey:probe").arg(1).arg("PX").arg(1000);
    match timeout(RESPONSE_TIMEOUT, probe.exec_async(connection)).await {
        Ok(response) => response.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no response within {RESPONSE_TIMEOUT:?}")),
    }
}
