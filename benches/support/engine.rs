//! An engine in this process, which answers from memory.

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

/// Usage is written as the service does; what is done less often, not while it is measured.
const USAGE: UsageConfig = UsageConfig {
    hourly_retention_days: 90,
    daily_retention_days: 731,
    flush_interval: Duration::from_secs(1),
    last_used_interval: Duration::from_secs(3600),
    roll_up_interval: Duration::from_secs(3600),
    max_pending: 500_000,
};

/// Holds its lease until it is dropped.
pub(crate) struct Leased {
    engine: Engine,
    /// All that there are.
    pub(crate) keys: Vec<String>,
    /// Where it runs, and what it leaves to be done.
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    running: Option<thread::JoinHandle<()>>,
    _folder: TempDir,
}

impl Leased {
    /// On a database that has this many keys, of which it remembers the first.
    pub(crate) fn with_keys(count: usize) -> Self {
        let keys = keys::generate(count);
        Self::with(keys, Limits::default(), &LimitConfig::default())
    }

    /// On a database that has these keys.
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
            // It must not run out while somebody else has the processor.
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
        // Until it has its lease it asks the database, which now and then answers at once too.
        let in_runtime = leased.enter();
        while (0..20).any(|_| leased.at_once(&leased.keys[0]).is_none()) {
            leased.admits(&leased.keys[0]);
        }
        drop(in_runtime);
        leased
    }

    /// What takes more than memory takes a runtime: this is it, until it is dropped.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Verifies a key, which must be good, wherever that is known from.
    pub(crate) fn verify(&self, key: &str) {
        let verified = self.runtime.block_on(self.engine.verify(key, None, &[]));
        verified.unwrap().unwrap();
    }

    /// Whether it lets a key in, which must be good but for its limits.
    pub(crate) fn admits(&self, key: &str) -> bool {
        let verified = self.runtime.block_on(self.engine.verify(key, None, &[]));
        match verified.unwrap() {
            Ok(_) => true,
            Err(Rejection::RateLimited { .. } | Rejection::QuotaExceeded { .. }) => false,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    /// Verifies a key, which must be good, if that takes no waiting: then it is known from memory.
    pub(crate) fn verify_at_once(&self, key: &str) -> Option<()> {
        self.at_once(key).map(|verified| drop(verified.unwrap()))
    }

    fn at_once(&self, key: &str) -> Option<Result<VerifiedKey, Rejection>> {
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
