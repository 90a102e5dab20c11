//! Private Redis server without persistence.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use redis::{Client, Connection};

use super::program::free_address;

/// Running Redis server. It is killed on drop.
pub(crate) struct Redis {
    pub(crate) url: String,
    server: Child,
}

impl Redis {
    /// Starts Redis. Returns `None` if it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let address = free_address();
        let (host, port) = address.split_once(':').unwrap();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", host, "--port", port, "--save", ""])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut redis = Self {
            server: command.spawn().ok()?,
            url: format!("redis://{address}"),
        };
        let client = Client::open(redis.url.as_str()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while client.get_connection().is_err() {
            assert!(
                redis.server.try_wait().unwrap().is_none(),
                "Redis has exited"
            );
            assert!(Instant::now() < deadline, "Redis does not respond");
            thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }

    pub(crate) fn empty(&self) {
        redis::cmd("FLUSHALL").exec(&mut self.connect()).unwrap();
    }

    /// Returns the number of scripts that it has run.
    pub(crate) fn scripts(&self) -> usize {
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("commandstats").query(&mut self.connect()).unwrap();
        let calls = info.split("cmdstat_evalsha:calls=").nth(1);
        let calls = calls.and_then(|rest| rest.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }

    fn connect(&self) -> Connection {
        let client = Client::open(self.url.as_str()).unwrap();
        client.get_connection().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
