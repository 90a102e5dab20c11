//! The topology of compose.yaml, run as processes: two instances with its settings, PostgreSQL, Redis, and nginx with
//! its actual configuration.

mod database_outage;
mod load;
mod nginx_responses;
mod two_instances;

use std::{fs, net::TcpListener, path::Path};

use serde_json::Value;

use super::{
    deployment::{Compose, SECRETS, make_secrets, read},
    keys::full_key,
    runner::{self, Gateway},
    support::{Client, Program, postgres, proxy::Proxy, redis},
};

/// Running processes. Fields are dropped in this order.
struct Topology {
    nginx: Gateway,
    instances: Vec<Instance>,
    folder: tempfile::TempDir,
    database_proxy: Proxy,
    _redis: redis::Redis,
    _database: postgres::Database,
}

struct Instance {
    program: Option<Program>,
    settings: Vec<(String, String)>,
}

impl Instance {
    fn start(&mut self, folder: &Path) {
        self.program = Some(Program::start(folder, &self.settings()));
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        let settings = self.settings.iter();
        settings
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    fn program(&self) -> &Program {
        self.program.as_ref().expect("an instance that runs")
    }
}

impl Topology {
    /// Starts all processes, or skips the test and returns `None` if a program is not installed.
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts all processes, with additional settings of the instances.
    fn start_with(more: &[(&str, &str)]) -> Option<Self> {
        runner::NGINX.path_if_installed()?;
        let (database, redis) = (postgres::fresh_database()?, redis::empty()?);
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets");
        make_secrets(&secrets);
        let database_proxy = Proxy::to(&database.url);
        fs::write(secrets.join("database_url"), &database_proxy.url).unwrap();
        let compose = Compose::read();
        let mut instances = Vec::new();
        for name in compose.instances() {
            let mut settings = compose.environment(name);
            for value in settings.values_mut() {
                *value = value.replace(SECRETS, &format!("{}/", secrets.display()));
            }
            for (name, here) in [
                ("HOST", "127.0.0.1"),
                ("PORT", &free_port().to_string()),
                ("REDIS_URL", &redis.url),
                ("TRUSTED_PROXIES", "127.0.0.1"),
            ] {
                *settings.get_mut(name).expect(name) = here.to_owned();
            }
            // Cheap password hashes, for speed.
            for (name, value) in [&[("BCRYPT_COST", "4")][..], more].concat() {
                settings.insert(name.to_owned(), value.to_owned());
            }
            let mut instance = Instance {
                program: None,
                settings: settings.into_iter().collect(),
            };
            instance.start(folder.path());
            instances.push(instance);
        }
        let bases: Vec<_> = instances.iter().map(|i| i.program().base.clone()).collect();
        let names = compose.instances();
        let nginx = runner::NGINX.start(|address, folder| {
            let mut conf = read("deploy/nginx.conf");
            let mut replace = |from: &str, to: &str| {
                assert!(conf.contains(from), "no {from} in nginx.conf");
                conf = conf.replace(from, to);
            };
            let folder = format!("{}/", folder.display());
            replace("listen 8080", &format!("listen {address}"));
            replace("/tmp/", &folder);
            replace("/dev/stdout", &format!("{folder}access"));
            replace("/dev/stderr", &format!("{folder}errors"));
            for (name, base) in names.iter().zip(&bases) {
                replace(&format!("{name}:8000"), base.trim_start_matches("http://"));
            }
            conf
        });
        Some(Self {
            nginx,
            instances,
            folder,
            database_proxy,
            _redis: redis,
            _database: database,
        })
    }

    /// Returns clients of nginx and of each instance.
    fn everywhere(&self) -> Vec<Client> {
        let instances = self.instances.iter().map(|i| i.program().client());
        [self.nginx.client()].into_iter().chain(instances).collect()
    }

    /// Returns clients with this key, of nginx and of each instance.
    fn callers(&self, key: &Value) -> Vec<Client> {
        let clients = self.everywhere().into_iter();
        clients
            .map(|client| client.with_key(full_key(key)))
            .collect()
    }

    /// Returns the number of requests that nginx has sent to an instance.
    fn passed_to(&self, number: usize) -> usize {
        let address = self.instances[number]
            .program()
            .base
            .trim_start_matches("http://")
            .to_owned();
        self.nginx
            .read("access")
            .matches(&format!("to={address} "))
            .count()
    }
}

/// Returns a free port outside the range of ephemeral ports, so that no client gets it while an instance is down.
fn free_port() -> u16 {
    std::iter::repeat_with(|| rand::random_range(10_000..30_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
