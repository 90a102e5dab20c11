//! Redis, or Valkey: where instances count together. No other file knows it.

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

use super::attempts::{Attempted, Attempts, Step};
use crate::{
    core::{config::RedisUrl, limit::RateLimit, spans},
    models::quota_usage::AHEAD_PART,
};

/// How soon Redis has to answer. If it does not, it is away for everybody until it does again. Who waits
/// for it has a little more patience, to be told so.
const ANSWER_WITHIN: Duration = Duration::from_millis(40);
/// How long it takes at the most to connect.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// How long it is left alone when it is away, at first and at the most. One that comes and goes is left
/// alone for longer each time.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(4);
/// A connection that has lasted for so long is a good one.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// How often a connection is tried that nobody may use: those in between drop what is idle.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Commands that may be on their way, and wait to be.
const PIPELINE: usize = 1024;

/// Scripts run at a moment of Redis's own clock: that of an instance may be wrong.
const NOW: &str = "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";
const TAKE: &str = include_str!("take.lua");
const ATTEMPT: &str = include_str!("attempt.lua");

/// Counts for all instances. Clones share the connection.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    take: Script,
    attempt: Script,
    link: watch::Sender<Link>,
    /// What `link` says, for those who ask very often.
    away: AtomicBool,
    /// The how manieth connection the last one is.
    number: AtomicU64,
    /// Requests that it did not answer, or not soon enough, and connections that could not be had.
    errors: AtomicU64,
    /// Units were taken this often.
    leases: AtomicU64,
}

#[derive(Clone)]
enum Link {
    /// Nobody knows yet.
    Connecting,
    /// The how manieth connection it is tells which one was lost.
    Up(u64, MultiplexedConnection),
    Away(Arc<str>),
}

/// The URL cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot be read; give redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, with user name \
     and password percent-encoded"
)]
pub struct NoStore;

/// Redis cannot be reached; it is on record why.
#[derive(Debug)]
pub(crate) struct Away;

/// What somebody wants to take of a rate limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub limit: RateLimit,
    /// With fewer than this nobody is served.
    pub least: u64,
    /// All that is asked for now.
    pub waiting: u64,
    /// What will be asked for soon.
    pub ahead: u64,
    /// How long it may be in hand.
    pub lease: Duration,
    /// What the bucket holds at the least, if Redis has lost it, or where it `raises`: if Redis may have
    /// lost it and have heard from others since.
    pub floor: u64,
    pub raises: bool,
    /// What was taken while Redis was away.
    pub untold: u64,
}

/// What was taken, and what the bucket holds then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn {
    pub units: u64,
    pub used: u64,
    pub leaked: u64,
}

impl Store {
    /// Connects to nothing yet.
    pub fn new(url: &RedisUrl) -> Result<Self, NoStore> {
        // What the error says may be a part of the URL, and that a secret.
        let client = Client::open(url.expose()).map_err(|_| NoStore)?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                take: Script::new(&[NOW, TAKE].concat()),
                attempt: Script::new(&[NOW, ATTEMPT].concat()),
                link: watch::Sender::new(Link::Connecting),
                away: AtomicBool::new(false),
                number: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                leases: AtomicU64::new(0),
            }),
        })
    }

    /// Whether there is a connection that answers.
    pub fn is_connected(&self) -> bool {
        matches!(*self.shared.link.borrow(), Link::Up(..))
    }

    /// How often it failed to answer or could not be reached.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// How often units of a rate limit were taken there.
    pub fn leases(&self) -> u64 {
        self.shared.leases.load(Ordering::Relaxed)
    }

    /// Whether it is worth asking.
    pub(super) fn is_in_reach(&self) -> bool {
        !self.shared.away.load(Ordering::Relaxed)
    }

    /// The how manieth connection it is by which is asked now.
    pub(super) fn link(&self) -> u64 {
        self.shared.number.load(Ordering::Relaxed)
    }

    /// Takes units of a rate limit. Answers by the how manieth connection as well.
    pub(super) async fn draw(&self, name: &str, draw: Draw) -> Result<(Drawn, u64), Away> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut take = self.shared.take.key(name);
        let window = u64::from(draw.limit.window_seconds()) * 1000;
        take.arg(draw.limit.limit())
            .arg(window)
            .arg(draw.least)
            .arg(draw.waiting)
            .arg(draw.ahead)
            .arg(AHEAD_PART)
            .arg(millis(draw.lease))
            .arg(draw.floor)
            .arg(draw.untold)
            .arg(u8::from(draw.raises));
        let ((units, used, leaked), link) = self.invoke(&take).await?;
        if units > 0 {
            self.shared.leases.fetch_add(1, Ordering::Relaxed);
        }
        let drawn = Drawn {
            units,
            used,
            leaked,
        };
        Ok((drawn, link))
    }

    async fn invoke<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(T, u64), Away> {
        let system = || KeyValue::new("db.system.name", "redis");
        spans::within(SpanKind::Client, "redis", system, self.ask(script)).await
    }

    async fn ask<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(T, u64), Away> {
        let mut number = None;
        let answer = timeout(ANSWER_WITHIN, async {
            let mut link = self.shared.link.subscribe();
            let known = |link: &Link| !matches!(link, Link::Connecting);
            let link = link.wait_for(known).await.map_err(|_| None)?.clone();
            let Link::Up(this, mut connection) = link else {
                return Err(None);
            };
            number = Some(this);
            let answer = script.invoke_async(&mut connection).await;
            answer.map(|answer| (answer, this)).map_err(Some)
        });
        let cause = match answer.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(None)) => return Err(Away),
            Ok(Err(Some(error))) => error.to_string(),
            Err(_) => format!("no answer within {ANSWER_WITHIN:?}"),
        };
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
        if let Some(number) = number {
            self.shared.lose(number, cause);
        }
        Err(Away)
    }

    /// Stays connected, for ever.
    pub(super) async fn keep(&self) {
        let mut told = false;
        let mut pause = FIRST_RETRY;
        loop {
            let cause = match self.shared.connect().await {
                Ok(connection) => {
                    if std::mem::take(&mut told) {
                        tracing::info!("Redis is back: rate limits are counted together again");
                    }
                    let since = Instant::now();
                    let cause = self.shared.use_until_lost(connection).await;
                    if since.elapsed() >= STEADY_AFTER {
                        pause = FIRST_RETRY;
                        // What was lost may have been the connection alone.
                        tracing::debug!(cause = &*cause, "lost a connection to Redis");
                        continue;
                    }
                    cause
                }
                Err(cause) => {
                    self.shared.errors.fetch_add(1, Ordering::Relaxed);
                    self.shared.be_away(&cause);
                    cause
                }
            };
            if !std::mem::replace(&mut told, true) {
                let cause = &*cause;
                tracing::warn!(
                    cause,
                    "cannot reach Redis: each instance counts its share of rate limits"
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }
}

impl Shared {
    /// A connection that has just done what will be asked of it.
    async fn connect(&self) -> Result<MultiplexedConnection, Arc<str>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(CONNECT_WITHIN))
            .set_pipeline_buffer_size(PIPELINE);
        let connect = async {
            let client = &self.client;
            let connection = client.get_multiplexed_async_connection_with_config(&config);
            let mut connection = connection.await?;
            self.take.load_async(&mut connection).await?;
            self.attempt.load_async(&mut connection).await?;
            Ok(connection)
        };
        let connected = match timeout(2 * CONNECT_WITHIN, connect).await {
            Ok(connected) => connected.map_err(|error: RedisError| error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", 2 * CONNECT_WITHIN)),
        };
        let mut connection = connected?;
        probe(&mut connection).await?;
        Ok(connection)
    }

    /// Lets everybody use a connection until it is lost, and answers why it was.
    async fn use_until_lost(&self, mut connection: MultiplexedConnection) -> Arc<str> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let used = connection.clone();
        self.link.send_replace(Link::Up(number, used));
        self.away.store(false, Ordering::Relaxed);
        let mut link = self.link.subscribe();
        loop {
            let away = |link: &Link| matches!(link, Link::Away(_));
            let lost = timeout(TRY_EVERY, link.wait_for(away)).await;
            if let Ok(Ok(link)) = lost
                && let Link::Away(cause) = &*link
            {
                return cause.clone();
            }
            if let Err(cause) = probe(&mut connection).await {
                self.errors.fetch_add(1, Ordering::Relaxed);
                self.lose(number, cause);
            }
        }
    }

    fn be_away(&self, cause: &Arc<str>) {
        self.away.store(true, Ordering::Relaxed);
        self.link.send_replace(Link::Away(cause.clone()));
    }

    /// Notes that a connection is of no use any more.
    fn lose(&self, number: u64, cause: String) {
        self.link.send_if_modified(|link| {
            let is_it = matches!(link, Link::Up(current, _) if *current == number);
            if is_it {
                self.away.store(true, Ordering::Relaxed);
                *link = Link::Away(cause.into());
            }
            is_it
        });
    }
}

/// Whether it answers, soon enough and as one that can count: a replica, or one without memory left, would
/// do the rest.
async fn probe(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let mut probe = redis::cmd("SET");
    probe.arg("latchkey:probe").arg(1).arg("PX").arg(1000);
    match timeout(ANSWER_WITHIN, probe.exec_async(connection)).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {ANSWER_WITHIN:?}")),
    }
}

impl Store {
    /// Counts an attempt, which `id` tells from others, among those of its subjects within a window of
    /// time.
    pub(crate) async fn attempt(
        &self,
        step: Step,
        id: &str,
        subjects: &[Attempted; 2],
        window: Duration,
    ) -> Result<Attempts, Away> {
        let mut attempt = self.shared.attempt.prepare_invoke();
        for subject in subjects {
            attempt.key(&subject.name);
        }
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        attempt.arg(step.as_str()).arg(id).arg(window);
        for subject in subjects {
            attempt.arg(subject.limit);
        }
        let ((subject, wait), _): ((i64, i64), _) = self.invoke(&attempt).await?;
        Ok(match usize::try_from(subject) {
            Ok(0) => Attempts::Allowed,
            Ok(number) => Attempts::Throttled {
                subject: number - 1,
                wait: Duration::from_millis(u64::try_from(wait).unwrap_or(0)),
            },
            Err(_) => Attempts::AllUnderWay,
        })
    }
}
