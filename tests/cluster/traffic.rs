//! Background traffic: clients use keys continuously, and record every response.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{fleet::await_that, load::Load};

/// Pause of each client between two requests, so that the load does not saturate the machine.
const PAUSE: Duration = Duration::from_millis(3);

/// Record of one request.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Number of the key.
    pub key: usize,
    /// Number of the server.
    pub instance: usize,
    pub sent: Instant,
    pub answered: Instant,
    /// Status of the response; `None` if the connection ended without one.
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
    /// Starts clients at each of these servers that use the keys one after the other.
    pub fn on(bases: &[String], keys: &[&str], clients: usize) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let recorder = seen.clone();
        let keys: Vec<_> = keys.iter().map(|&key| key.to_owned()).collect();
        let servers = bases.len();
        let load = Load::on(&vec![bases; clients].concat(), move |client, wire| {
            for (key, text) in keys.iter().enumerate() {
                let sent = Instant::now();
                let response = wire.use_key(text);
                let seen = Seen {
                    key,
                    instance: client % servers,
                    sent,
                    answered: Instant::now(),
                    status: response.map(|response| response.status),
                };
                recorder.lock().unwrap().push(seen);
                thread::sleep(PAUSE);
            }
        });
        Self {
            servers,
            load,
            seen,
        }
    }

    /// Waits until `count` recorded requests match.
    #[track_caller]
    pub fn await_seen(&self, condition: &str, count: usize, matches: impl Fn(&Seen) -> bool) {
        await_that(condition, Duration::from_secs(20), || {
            let seen = self.seen.lock().unwrap();
            seen.iter().filter(|seen| matches(seen)).count() >= count
        });
    }

    /// Waits until a recorded request of every server matches.
    #[track_caller]
    pub fn await_everywhere(&self, condition: &str, matches: impl Fn(&Seen) -> bool) {
        for server in 0..self.servers {
            self.await_seen(condition, 1, |seen| {
                seen.instance == server && matches(seen)
            });
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

/// Returns the 50th, 99th and 100th percentile of the durations.
pub fn percentiles<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> [Duration; 3] {
    let mut took: Vec<_> = seen.into_iter().map(Seen::took).collect();
    took.sort();
    assert!(!took.is_empty(), "there was no traffic");
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    [at(50), at(99), at(100)]
}

/// A rate limit with a window of one second.
#[derive(Clone, Copy)]
pub struct PerSecond(pub u16);

impl PerSecond {
    /// Returns the settings of a key with this limit.
    pub fn settings(self) -> Value {
        json!({"rate_limit": {"limit": self.0, "window_seconds": 1}})
    }

    /// Returns how often such a key may be allowed within an interval: a full bucket plus the refill.
    pub fn allowed(self, interval: Duration) -> f64 {
        f64::from(self.0) * (1.0 + interval.as_secs_f64())
    }

    /// Returns the largest excess over [`allowed`](Self::allowed) in any interval. A request counts for an interval if
    /// it was sent after the start and its response arrived before the end.
    pub fn excess<'a>(self, seen: impl IntoIterator<Item = &'a Seen>) -> f64 {
        let admitted = seen.into_iter().filter(|seen| seen.is_admitted());
        let mut by_response: Vec<_> = admitted.copied().collect();
        by_response.sort_by_key(|seen| seen.answered);
        let from = |first: &Seen| {
            let later = by_response.iter().filter(|seen| seen.sent >= first.sent);
            let over = later.zip(1_u32..).map(|(last, count)| {
                f64::from(count) - self.allowed(last.answered.duration_since(first.sent))
            });
            over.fold(f64::MIN, f64::max)
        };
        by_response.iter().map(from).fold(f64::MIN, f64::max)
    }
}
