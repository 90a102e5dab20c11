//! Continuous load: clients use keys in the background, and each response is compared with what the test promised when
//! the request was sent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::wire::{Response, Wire};

/// Threads that repeat their work until this value is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Starts one thread per server that repeats `work` with the number of the server.
    pub fn on(bases: &[String], work: impl Fn(usize, &mut Wire) + Send + Sync + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let work = Arc::new(work);
        let start = |(number, base): (usize, &String)| {
            let (stop, work, mut wire) = (stop.clone(), work.clone(), Wire::to(base));
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    work(number, &mut wire);
                }
            })
        };
        let threads = bases.iter().enumerate().map(start).collect();
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            // Otherwise a client that panicked would look like one that found no violation.
            assert!(ended.is_ok() || thread::panicking(), "a client panicked");
        }
    }
}

/// A key under load, and the expected response to requests that are sent now.
pub struct Target {
    pub key: String,
    promise: AtomicU8,
    good: fn(&Response) -> bool,
    rejected: fn(&Response) -> bool,
}

/// Any response is right.
const NONE: u8 = 0;
const GOOD: u8 = 1;
const REJECTED: u8 = 2;

impl Target {
    pub fn new(key: &str, good: fn(&Response) -> bool, rejected: fn(&Response) -> bool) -> Self {
        Self {
            key: key.to_owned(),
            promise: AtomicU8::new(NONE),
            good,
            rejected,
        }
    }

    /// Returns a key that is accepted with 200 and rejected with 401.
    pub fn plain(key: &str) -> Self {
        Self::new(
            key,
            |response| response.status == 200,
            |response| response.status == 401,
        )
    }

    pub fn promise_nothing(&self) {
        self.promise.store(NONE, SeqCst);
    }

    pub fn promise_good(&self) {
        self.promise.store(GOOD, SeqCst);
    }

    /// Promises that the key is rejected. It cannot be promised good again: create another target.
    pub fn promise_rejected(&self) {
        self.promise.store(REJECTED, SeqCst);
    }

    /// Returns true if the response breaks a promise that held from before its request was sent until now.
    pub fn breaks(&self, response: &Response, promised: u8) -> bool {
        self.promise.load(SeqCst) == promised
            && match promised {
                GOOD => !(self.good)(response),
                REJECTED => !(self.rejected)(response),
                _ => false,
            }
    }
}

/// The keys that are in use, one per slot, and the violations found with them.
#[derive(Default)]
pub struct Targets {
    slots: Vec<Mutex<Option<Arc<Target>>>>,
    violations: Mutex<Vec<String>>,
}

impl Targets {
    pub fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: (0..slots).map(|_| Mutex::default()).collect(),
            violations: Mutex::default(),
        })
    }

    pub fn set(&self, slot: usize, target: &Arc<Target>) {
        *self.slots[slot].lock().unwrap() = Some(target.clone());
    }

    /// Uses the keys on all of these servers. `pause` is the time that a client waits between two rounds.
    pub fn load(self: &Arc<Self>, bases: &[String], pause: Duration) -> Load {
        let targets = self.clone();
        Load::on(bases, move |number, wire| {
            for slot in &targets.slots {
                if let Some(target) = slot.lock().unwrap().clone() {
                    let promised = target.promise.load(SeqCst);
                    let response = wire.use_key(&target.key);
                    // There is no response if the server was killed.
                    if let Some(response) =
                        response.filter(|response| target.breaks(response, promised))
                    {
                        targets
                            .add_violation(format!("under load, instance {number}: {response:?}"));
                    }
                }
            }
            thread::sleep(pause);
        })
    }

    pub fn add_violation(&self, violation: String) {
        self.violations.lock().unwrap().push(violation);
    }

    #[track_caller]
    pub fn assert_no_violation(&self) {
        let violations = self.violations.lock().unwrap();
        let first: Vec<_> = violations.iter().take(5).collect();
        assert!(
            first.is_empty(),
            "{} violations: {first:#?}",
            violations.len()
        );
    }
}
