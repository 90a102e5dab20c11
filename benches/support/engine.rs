//! An engine in this process, which answers from memory.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use latchkey::{
    core::{
        clock::Clock,
        config::{CacheConfig, DatabaseConfig},
        database_url::DatabaseUrl,
    },
    server,
    verification::engine::Engine,
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot};

use super::keys::{self, Table};

const OWNER: &str = "ada@example.com";

/// Holds its lease until it is dropped.
pub(crate) struct Leased {
    engine: Engine,
    /// All that there are.
    pub(crate) keys: Vec<String>,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    running: Option<thread::JoinHandle<()>>,
    _folder: TempDir,
}

impl Leased {
    /// On a database that has this many keys, of which it remembers the first.
    pub(crate) fn with_keys(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/latchkey.db", folder.path().display());
        let database = DatabaseConfig {
            url: url.parse::<DatabaseUrl>().unwrap(),
            pool_size: 2,
            timeout: Duration::from_secs(5),
        };
        server::migrate(&database.url).unwrap();
        let keys = keys::generate(count);
        let mut table = Table::open(&url);
        table.add_user(OWNER);
        table.add_keys(OWNER, &keys);
        drop(table);
        let cache = CacheConfig {
            // It must not run out while somebody else has the processor.
            lease: Duration::from_secs(60),
            max_keys: 1_000_000,
        };
        let engine = Engine::open(&database, &cache, Clock::default()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let run = {
            let engine = engine.clone();
            move || {
                let stopped = async { drop(stopped.await) };
                runtime().block_on(engine.run(Duration::from_secs(3600), stopped));
            }
        };
        let leased = Self {
            engine,
            keys,
            runtime: runtime(),
            stop: Some(stop),
            running: Some(thread::spawn(run)),
            _folder: folder,
        };
        // Until it has its lease it asks the database, which takes a runtime.
        let in_runtime = leased.runtime.enter();
        while leased.verify_at_once(&leased.keys[0]).is_none() {
            leased.verify(&leased.keys[0]);
        }
        drop(in_runtime);
        leased
    }

    /// Verifies a key, which must be good, wherever that is known from.
    pub(crate) fn verify(&self, key: &str) {
        let verified = self.runtime.block_on(self.engine.verify(key, None, &[]));
        verified.unwrap().unwrap();
    }

    /// Verifies a key, which must be good, if that takes no waiting: then it is known from memory.
    pub(crate) fn verify_at_once(&self, key: &str) -> Option<()> {
        let verify = pin!(self.engine.verify(key, None, &[]));
        match verify.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(verified) => {
                verified.unwrap().unwrap();
                Some(())
            }
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

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}
