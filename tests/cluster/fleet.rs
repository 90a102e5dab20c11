//! Several instances of the service on one PostgreSQL, each connected through its own proxy.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    load::Target,
    support::{
        Client, Program, path_of, postgres,
        program::{QUICK, run_in},
        proxy::Proxy,
        server::query,
    },
    wire::{Response, Wire},
};

/// Default of `CACHE_LEASE_SECONDS`: the longest time that a revocation waits.
pub const LEASE: Duration = Duration::from_secs(2);
/// Additional time that a busy machine may take.
pub const SLACK: Duration = Duration::from_secs(2);

pub struct Instance {
    pub program: Program,
    pub proxy: Proxy,
}

/// Running instances. Fields are dropped in this order: first the processes, last their database.
pub struct Fleet {
    pub instances: Vec<Instance>,
    /// `Authorization` header of the account ada@example.com.
    pub ada: String,
    folder: tempfile::TempDir,
    database: postgres::Database,
}

impl Fleet {
    /// Starts three instances with default settings. Returns `None` if PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with([&[], &[], &[]])
    }

    /// Starts three instances that share this Redis.
    pub fn with_redis(url: &str) -> Option<Self> {
        Self::start_with([&[("REDIS_URL", url)]; 3])
    }

    /// Starts three instances, each with its own settings.
    pub fn start_with(settings: [&[(&str, &str)]; 3]) -> Option<Self> {
        let mut fleet = Self {
            database: postgres::fresh_database()?,
            folder: tempfile::tempdir().unwrap(),
            instances: Vec::new(),
            ada: String::new(),
        };
        for settings in settings {
            fleet.join(settings);
        }
        fleet.ada = fleet.sign_up("ada@example.com");
        Some(fleet)
    }

    pub fn join(&mut self, settings: &[(&str, &str)]) {
        let proxy = Proxy::to(&self.database.url);
        let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
        let url = ("DATABASE_URL", proxy.url.as_str());
        let settings = [&[secret, url], settings].concat();
        let program = start(self.folder.path(), &settings);
        self.instances.push(Instance { program, proxy });
    }

    pub fn bases(&self) -> Vec<String> {
        let base = |instance: &Instance| instance.program.base.clone();
        self.instances.iter().map(base).collect()
    }

    /// Returns one connection to each instance.
    pub fn wires(&self) -> Vec<Wire> {
        self.bases().iter().map(|base| Wire::to(base)).collect()
    }

    /// Returns a client with this `Authorization` header at an instance. `number` is taken modulo the number of
    /// instances.
    pub fn at(&self, number: usize, authorization: &str) -> Client {
        self.anonymous(number).with("authorization", authorization)
    }

    fn anonymous(&self, number: usize) -> Client {
        self.instances[number % self.instances.len()]
            .program
            .client()
    }

    pub fn sign_up(&self, email: &str) -> String {
        self.anonymous(0).sign_up(email).header("authorization")
    }

    /// Creates an account with the role `admin`. Returns its `Authorization` header.
    pub fn admin(&self) -> String {
        let admin = self.sign_up("admin@example.com");
        let arguments = ["admin", "grant", "admin@example.com"];
        let database = ("DATABASE_URL", self.database.url.as_str());
        let output = run_in(self.folder.path(), &arguments, &[database]);
        assert!(output.status.success(), "{output:?}");
        admin
    }

    /// Creates a key of ada that every instance has cached and accepts.
    pub fn cached_key(&self) -> (Value, Target) {
        let key = self.at(0, &self.ada).create_key();
        let target = Target::plain(full_key(&key));
        for wire in &mut self.wires() {
            for _ in 0..2 {
                assert_eq!(wire.use_key(&target.key).expect("a response").status, 200);
            }
        }
        (key, target)
    }

    /// Revokes a key, and returns how long DELETE took.
    #[track_caller]
    pub fn revoke(&self, number: usize, key: &Value) -> Duration {
        let client = self.at(number, &self.ada);
        let started = Instant::now();
        let reply = client.delete(&path_of(key));
        let took = started.elapsed();
        assert_eq!(reply.status, 200, "after {took:?}: {reply:?}");
        eprintln!("DELETE took {took:?}");
        took
    }

    /// Asserts that every instance that responds rejects this key.
    #[track_caller]
    pub fn assert_rejected_everywhere(&self, key: &Value) {
        for (number, response) in use_key_on_all(&mut self.wires(), full_key(key))
            .iter()
            .enumerate()
        {
            let rejected = response
                .as_ref()
                .is_none_or(|response| response.status == 401);
            assert!(rejected, "instance {number}: {response:?}");
        }
    }

    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// Returns the number of instances that the database lists.
    pub fn registered(&self) -> usize {
        let count = "SELECT count(*)::text AS text FROM instances";
        query(&self.database.url, count)[0].parse().unwrap()
    }
}

/// Starts one instance. Without a setting for the database, it uses an embedded one in this folder.
pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Program {
    // One line per request would be most of the work under load.
    let log = ("LOG", "warn,latchkey=info,latchkey::middleware=warn");
    let settings = [&QUICK[..], &[log], settings].concat();
    Program::start(folder, &settings)
}

/// Returns the full key from the response that created it.
pub fn full_key(key: &Value) -> &str {
    key["api_key"].as_str().expect("a new key")
}

/// Sends a request on each connection, and then reads all responses.
pub fn use_key_on_all(wires: &mut [Wire], key: &str) -> Vec<Option<Response>> {
    for wire in &mut *wires {
        wire.send(key);
    }
    wires.iter_mut().map(Wire::receive).collect()
}

/// Waits until a condition holds, and returns how long that took.
#[track_caller]
pub fn await_that(condition: &str, bound: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < bound,
            "not within {bound:?}: {condition}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("{condition}: after {:?}", started.elapsed());
    started.elapsed()
}

/// Asserts that a change took at most one lease, plus the slack of a busy machine.
#[track_caller]
pub fn assert_within_a_lease(took: Duration) {
    assert!(took < LEASE + SLACK, "{took:?}");
}
