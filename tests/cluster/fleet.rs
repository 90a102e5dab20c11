//! Several instances of the service on one PostgreSQL, each by way of a proxy of its own.

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
    wire::{Answer, Wire},
};

/// `CACHE_LEASE_SECONDS` where nothing is said: the most that a revocation waits.
pub const LEASE: Duration = Duration::from_secs(2);
/// What a machine with other things to do may take on top of it.
pub const SLACK: Duration = Duration::from_secs(2);

pub struct Instance {
    pub program: Program,
    pub proxy: Proxy,
}

/// Fields are dropped in this order: first the processes, at last their database.
pub struct Fleet {
    pub instances: Vec<Instance>,
    /// What a person sends to say who they are.
    pub ada: String,
    folder: tempfile::TempDir,
    database: postgres::Database,
}

impl Fleet {
    /// Three with the defaults. `None` where there is no PostgreSQL.
    pub fn start() -> Option<Self> {
        Self::start_with([&[], &[], &[]])
    }

    /// Three that share this Redis.
    pub fn with_redis(url: &str) -> Option<Self> {
        Self::start_with([&[("REDIS_URL", url)]; 3])
    }

    /// Three, each with settings of its own.
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

    /// ConnectionCounters to all instances.
    pub fn wires(&self) -> Vec<Wire> {
        self.bases().iter().map(|base| Wire::to(base)).collect()
    }

    /// Somebody at an instance, counted round and round.
    pub fn at(&self, number: usize, who: &str) -> Client {
        self.anonymous(number).with("authorization", who)
    }

    fn anonymous(&self, number: usize) -> Client {
        self.instances[number % self.instances.len()]
            .program
            .client()
    }

    pub fn sign_up(&self, email: &str) -> String {
        self.anonymous(0).sign_up(email).header("authorization")
    }

    /// Somebody with the role `admin`.
    pub fn admin(&self) -> String {
        let admin = self.sign_up("admin@example.com");
        let arguments = ["admin", "grant", "admin@example.com"];
        let database = ("DATABASE_URL", self.database.url.as_str());
        let output = run_in(self.folder.path(), &arguments, &[database]);
        assert!(output.status.success(), "{output:?}");
        admin
    }

    /// A key of ada's that every instance knows and accepts.
    pub fn known_key(&self) -> (Value, Target) {
        let key = self.at(0, &self.ada).create_key();
        let target = Target::plain(text_of(&key));
        for wire in &mut self.wires() {
            for _ in 0..2 {
                assert_eq!(wire.ask(&target.key).expect("an answer").status, 200);
            }
        }
        (key, target)
    }

    /// How long DELETE takes to answer.
    #[track_caller]
    pub fn revoke(&self, number: usize, key: &Value) -> Duration {
        let client = self.at(number, &self.ada);
        let asked = Instant::now();
        let reply = client.delete(&path_of(key));
        let took = asked.elapsed();
        assert_eq!(reply.status, 200, "after {took:?}: {reply:?}");
        eprintln!("DELETE took {took:?}");
        took
    }

    /// Asserts that nobody accepts this key who answers at all.
    #[track_caller]
    pub fn assert_refused_everywhere(&self, key: &Value) {
        for (number, answer) in ask_all(&mut self.wires(), text_of(key)).iter().enumerate() {
            let refused = answer.as_ref().is_none_or(|answer| answer.status == 401);
            assert!(refused, "instance {number}: {answer:?}");
        }
    }

    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// How many instances the database knows of.
    pub fn registered(&self) -> usize {
        let count = "SELECT count(*)::text AS text FROM instances";
        query(&self.database.url, count)[0].parse().unwrap()
    }
}

/// One instance. Where nothing is said of a database, it has an embedded one in this folder.
pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Program {
    // A line per request would be most of the work under load.
    let log = (
        "LOG",
        "warn,latchkey::server=info,latchkey::verification=info",
    );
    let settings = [&QUICK[..], &[log], settings].concat();
    Program::start(folder, &settings)
}

/// The whole key, as its creation answered it.
pub fn text_of(key: &Value) -> &str {
    key["api_key"].as_str().expect("a new key")
}

/// Sends to all before it waits for any.
pub fn ask_all(wires: &mut [Wire], key: &str) -> Vec<Option<Answer>> {
    for wire in &mut *wires {
        wire.send(key);
    }
    wires.iter_mut().map(Wire::receive).collect()
}

/// Waits until it holds, and answers how long that took.
#[track_caller]
pub fn await_that(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("{what}: after {:?}", started.elapsed());
    started.elapsed()
}

/// Within a lease, and what a busy machine takes.
#[track_caller]
pub fn assert_within_a_lease(took: Duration) {
    assert!(took < LEASE + SLACK, "{took:?}");
}
