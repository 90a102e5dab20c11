//! Clients who use keys without pause while things happen, and all that they were answered.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{fleet::await_that, load::Load};

/// What each client rests between two requests: the load is not to be the machine's limit.
const PAUSE: Duration = Duration::from_millis(3);

#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Which of the keys, and of the servers.
    pub key: usize,
    pub instance: usize,
    pub sent: Instant,
    pub answered: Instant,
    /// `None` if the connection ended without an answer.
    pub status: Option<u16>,
}

impl Seen {
    pub fn is_admitted(&self) -> bool {
        self.status == Some(200)
    }

    pub fn took(&self) -> Duration {
        self.answered.duration_since(self.sent)
    }
}

pub struct Traffic {
    servers: usize,
    load: Load,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Traffic {
    /// So many clients at each of these servers, who use the keys in turn.
    pub fn on(bases: &[String], keys: &[&str], clients: usize) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = seen.clone();
        let keys: Vec<_> = keys.iter().map(|&key| key.to_owned()).collect();
        let servers = bases.len();
        let load = Load::on(&vec![bases; clients].concat(), move |client, wire| {
            for (key, text) in keys.iter().enumerate() {
                let sent = Instant::now();
                let answer = wire.ask(text);
                let seen = Seen {
                    key,
                    instance: client % servers,
                    sent,
                    answered: Instant::now(),
                    status: answer.map(|answer| answer.status),
                };
                noted.lock().unwrap().push(seen);
                thread::sleep(PAUSE);
            }
        });
        Self {
            servers,
            load,
            seen,
        }
    }

    /// Waits until so many of what was seen are such.
    #[track_caller]
    pub fn await_seen(&self, what: &str, count: usize, is_such: impl Fn(&Seen) -> bool) {
        await_that(what, Duration::from_secs(20), || {
            let seen = self.seen.lock().unwrap();
            seen.iter().filter(|seen| is_such(seen)).count() >= count
        });
    }

    /// Waits until every one of the servers has answered so.
    #[track_caller]
    pub fn await_everywhere(&self, what: &str, is_such: impl Fn(&Seen) -> bool) {
        for server in 0..self.servers {
            self.await_seen(what, 1, |seen| seen.instance == server && is_such(seen));
        }
    }

    pub fn stop(self) -> Vec<Seen> {
        drop(self.load);
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

pub fn count_admitted<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> usize {
    seen.into_iter().filter(|seen| seen.is_admitted()).count()
}

/// How long these took: half of them, 99 of 100, all.
pub fn percentiles<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> [Duration; 3] {
    let mut took: Vec<_> = seen.into_iter().map(Seen::took).collect();
    took.sort();
    assert!(!took.is_empty(), "there was no traffic");
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    [at(50), at(99), at(100)]
}

/// A rate limit whose window is a second.
#[derive(Clone, Copy)]
pub struct PerSecond(pub u16);

impl PerSecond {
    /// What makes a key with it.
    pub fn choices(self) -> Value {
        json!({"rate_limit": {"limit": self.0, "window_seconds": 1}})
    }

    /// How often such a key is admitted at the most in so much time.
    pub fn allowed(self, stretch: Duration) -> f64 {
        f64::from(self.0) * (1.0 + stretch.as_secs_f64())
    }

    /// The most by which it was admitted more often than that, in whatever stretch of time: what was sent
    /// after its start and answered before its end was admitted in between.
    pub fn excess<'a>(self, seen: impl IntoIterator<Item = &'a Seen>) -> f64 {
        let admitted = seen.into_iter().filter(|seen| seen.is_admitted());
        let mut by_answer: Vec<_> = admitted.copied().collect();
        by_answer.sort_by_key(|seen| seen.answered);
        let from = |first: &Seen| {
            let later = by_answer.iter().filter(|seen| seen.sent >= first.sent);
            let over = later.zip(1_u32..).map(|(last, count)| {
                f64::from(count) - self.allowed(last.answered.duration_since(first.sent))
            });
            over.fold(f64::MIN, f64::max)
        };
        by_answer.iter().map(from).fold(f64::MIN, f64::max)
    }
}
