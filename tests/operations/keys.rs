//! Continuous changes: clients create and revoke keys, and record the changes that were acknowledged.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::support::{Client, path_of};

/// Acknowledged changes. A change without a response may have been made or not, and is not recorded.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Keys that were created, and for which no revocation was sent.
    pub good: Vec<Value>,
    /// Keys that were revoked.
    pub revoked: Vec<Value>,
}

impl Acknowledged {
    /// Asserts that the server accepts and rejects the keys accordingly.
    #[track_caller]
    pub fn assert_holds(&self, server: &Client) {
        let status = |key: &Value| {
            let caller = server.with_key(full_key(key));
            caller.get("/protected").status
        };
        for key in &self.good {
            assert_eq!(status(key), 200, "created and lost: {}", key["id"]);
        }
        for key in &self.revoked {
            assert_eq!(
                status(key),
                401,
                "revoked and accepted again: {}",
                key["id"]
            );
        }
    }

    pub fn add(&mut self, other: Self) {
        self.good.extend(other.good);
        self.revoked.extend(other.revoked);
    }
}

/// Waits until the server is ready.
#[track_caller]
pub fn await_ready(server: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.get("/health/ready").status != 200 {
        assert!(
            Instant::now() < deadline,
            "the server does not become ready"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the full key from the response that created it.
pub fn full_key(key: &Value) -> &str {
    key["api_key"].as_str().expect("a new key")
}

/// Threads that make changes until they are stopped.
pub struct Changes {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Changes {
    /// Starts threads with an account each at this server.
    pub fn at(server: &Client, threads: usize) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Mutex<_>>::default());
        let start = |_| {
            let email = format!("{}@example.com", uuid::Uuid::new_v4().simple());
            let person = server.sign_up(&email);
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    change(&person, &acknowledged);
                }
            })
        };
        let threads = (0..threads).map(start).collect();
        Self {
            stop,
            acknowledged,
            threads,
        }
    }

    /// Returns the number of changes that have been acknowledged.
    pub fn count(&self) -> usize {
        let acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.good.len() + 2 * acknowledged.revoked.len()
    }

    pub fn stop(mut self) -> Acknowledged {
        self.stop.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a thread without a panic");
        }
        std::mem::take(&mut *self.acknowledged.lock().unwrap())
    }
}

/// Creates two keys and revokes one of them.
fn change(person: &Client, acknowledged: &Mutex<Acknowledged>) {
    let create = || {
        let reply = person.try_send("POST", "/api-keys", "")?;
        (reply.status == 201).then(|| reply.json())
    };
    if let Some(key) = create() {
        acknowledged.lock().unwrap().good.push(key);
    }
    let Some(key) = create() else {
        thread::sleep(Duration::from_millis(20));
        return;
    };
    let reply = person.try_send("DELETE", &path_of(&key), "");
    if reply.is_some_and(|reply| reply.status == 200) {
        acknowledged.lock().unwrap().revoked.push(key);
    }
}
