//! Engine in the process of the benchmark, which answers from its cache.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use latchkey::{
    config::{CacheConfig, DatabaseConfig, LimitConfig, UsageConfig, database_url::DatabaseUrl},
    domain::clock::Clock,
    server,
    verification::engine::{Engine, Rejection, VerifiedKey},
};
use tempfile::TempDir;
use tokio::{
    runtime::{EnterGuard, Handle},
    sync::oneshot,
};

use super::keys::{self, Limits, Table};

const OWNER: &str = "ada@example.com";

/// Settings of usage: counts are written as by the service, and rarer tasks do not run during the measurement.
const USAGE: UsageConfig = UsageConfig {
    hourly_retention_days: 90,
    daily_retention_days: 731,
    flush_interval: Duration::from_secs(1),
    last_used_interval: Duration::from_secs(3600),
    roll_up_interval: Duration::from_secs(3600),
    max_pending: 500_000,
};

/// Engine that holds a lease on its cache until it is dropped.
pub(crate) struct Leased {
    engine: Engine,
    /// All keys in the database.
    pub(crate) keys: Vec<String>,
    /// Runtime of the engine's background tasks.
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    running: Option<thread::JoinHandle<()>>,
    _folder: TempDir,
}

impl Leased {
    /// Creates an engine on a database with this many keys. Only the first one is in the cache.
    pub(crate) fn with_keys(count: usize) -> Self {
        let keys = keys::generate(count);
        Self::with(keys, Limits::default(), &LimitConfig::default())
    }

    /// Creates an engine on a database with these keys. Only the first one is in the cache.
    pub(crate) fn with(keys: Vec<String>, limits: Limits, config: &LimitConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/latchkey.db", folder.path().display());
        let database = DatabaseConfig {
            url: url.parse::<DatabaseUrl>().unwrap(),
            pool_size: 2,
            timeout: Duration::from_secs(5),
        };
        server::migrate(&database.url).unwrap();
        let mut table = Table::open(&url);
        table.add_user(OWNER);
        table.add_keys(OWNER, &keys);
        table.set_limits(keys.len(), limits);
        drop(table);
        let cache = CacheConfig {
            // Long enough not to expire while other processes use the CPU.
            lease: Duration::from_secs(60),
            max_keys: 1_000_000,
        };
        let engine = Engine::open(&database, &cache, config, &USAGE, Clock::default()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let run = {
            let engine = engine.clone();
            move || {
                let stopped = async { drop(stopped.await) };
                let _ = runtime.block_on(engine.run(&USAGE, stopped));
            }
        };
        let leased = Self {
            engine,
            keys,
            runtime: handle,
            stop: Some(stop),
            running: Some(thread::spawn(run)),
            _folder: folder,
        };
        // Without a lease the engine queries the database, which sometimes also responds without waiting. So it holds
        // a lease only when several checks in a row complete without waiting.
        let in_runtime = leased.enter();
        while (0..20).any(|_| leased.try_verify(&leased.keys[0]).is_none()) {
            leased.admits(&leased.keys[0]);
        }
        drop(in_runtime);
        leased
    }

    /// Enters the engine's runtime until the guard is dropped. Checks that need more than the cache require it.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Verifies a key, which must be valid, from the cache or the database.
    pub(crate) fn verify(&self, key: &str) {
        let verified = self.runtime.block_on(self.engine.verify(key, None, &[]));
        verified.unwrap().unwrap();
    }

    /// Returns whether the limits of a key, which must be valid, allow a request.
    pub(crate) fn admits(&self, key: &str) -> bool {
        let verified = self.runtime.block_on(self.engine.verify(key, None, &[]));
        match verified.unwrap() {
            Ok(_) => true,
            Err(Rejection::RateLimited { .. } | Rejection::QuotaExceeded { .. }) => false,
            Err(rejection) => panic!("{rejection:?}"),
        }
    }

    /// Verifies a key, which must be valid, if that is possible without waiting, so from the cache. Returns `None`
    /// otherwise.
    pub(crate) fn verify_at_once(&self, key: &str) -> Option<()> {
        self.try_verify(key).map(|verified| drop(verified.unwrap()))
    }

    fn try_verify(&self, key: &str) -> Option<Result<VerifiedKey, Rejection>> {
        let verify = pin!(self.engine.verify(key, None, &[]));
        match verify.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(verified) => Some(verified.unwrap()),
            Poll::Pending => None,
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.running.take().map(thread::JoinHandle::join);
    }
}
