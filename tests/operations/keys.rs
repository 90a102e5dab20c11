//! Somebody who makes and revokes keys without pause, and remembers what was acknowledged.

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

/// What is certain by what was answered. What was not answered may have happened or not, and is not here.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Made, and never asked to be revoked.
    pub good: Vec<Value>,
    pub revoked: Vec<Value>,
}

impl Acknowledged {
    /// Asserts that all of it holds.
    #[track_caller]
    pub fn assert_holds(&self, server: &Client) {
        let status = |key: &Value| {
            let caller = server.with_key(text_of(key));
            caller.get("/protected").status
        };
        for key in &self.good {
            assert_eq!(status(key), 200, "made and lost: {}", key["id"]);
        }
        for key in &self.revoked {
            assert_eq!(status(key), 401, "revoked and good again: {}", key["id"]);
        }
    }

    pub fn add(&mut self, other: Self) {
        self.good.extend(other.good);
        self.revoked.extend(other.revoked);
    }
}

/// Waits until the server says that it can do its work.
#[track_caller]
pub fn await_ready(server: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.get("/health/ready").status != 200 {
        assert!(Instant::now() < deadline, "it does not become ready");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The whole key, as its creation answered it.
pub fn text_of(key: &Value) -> &str {
    key["api_key"].as_str().expect("a new key")
}

/// Threads that do this until it is told to stop.
pub struct Changes {
    stop: Arc<AtomicBool>,
    noted: Arc<Mutex<Acknowledged>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Changes {
    /// So many, each with an account of their own at this server.
    pub fn at(server: &Client, people: usize) -> Self {
        let (stop, noted) = (Arc::<AtomicBool>::default(), Arc::<Mutex<_>>::default());
        let start = |_| {
            let email = format!("{}@example.com", uuid::Uuid::new_v4().simple());
            let person = server.sign_up(&email);
            let (stop, noted) = (stop.clone(), noted.clone());
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    change(&person, &noted);
                }
            })
        };
        let threads = (0..people).map(start).collect();
        Self {
            stop,
            noted,
            threads,
        }
    }

    /// How many changes were acknowledged by now.
    pub fn count(&self) -> usize {
        let noted = self.noted.lock().unwrap();
        noted.good.len() + 2 * noted.revoked.len()
    }

    pub fn stop(mut self) -> Acknowledged {
        self.stop.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("one who gave up");
        }
        std::mem::take(&mut *self.noted.lock().unwrap())
    }
}

/// Makes two keys and revokes one of them.
fn change(person: &Client, noted: &Mutex<Acknowledged>) {
    let make = || {
        let reply = person.try_send("POST", "/api-keys", "")?;
        (reply.status == 201).then(|| reply.json())
    };
    if let Some(key) = make() {
        noted.lock().unwrap().good.push(key);
    }
    let Some(key) = make() else {
        thread::sleep(Duration::from_millis(20));
        return;
    };
    let reply = person.try_send("DELETE", &path_of(&key), "");
    if reply.is_some_and(|reply| reply.status == 200) {
        noted.lock().unwrap().revoked.push(key);
    }
}
