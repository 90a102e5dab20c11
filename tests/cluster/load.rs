//! Clients that use keys without pause while a test goes on, and hold each answer against what was
//! promised when its request was sent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::wire::{Answer, Wire};

/// Threads that work until this is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// On each of these servers a thread that does this again and again, with the server's number.
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
            // Or a client that gave up would look like one that saw nothing wrong.
            assert!(ended.is_ok() || thread::panicking(), "a client gave up");
        }
    }
}

/// A key that is used without pause, and what must become of requests with it that are sent now.
pub struct Target {
    pub key: String,
    promise: AtomicU8,
    good: fn(&Answer) -> bool,
    refused: fn(&Answer) -> bool,
}

/// Whatever the answer, it is right.
const NONE: u8 = 0;
const GOOD: u8 = 1;
const REFUSED: u8 = 2;

impl Target {
    pub fn new(key: &str, good: fn(&Answer) -> bool, refused: fn(&Answer) -> bool) -> Self {
        Self {
            key: key.to_owned(),
            promise: AtomicU8::new(NONE),
            good,
            refused,
        }
    }

    /// One that is good until it is refused with 401.
    pub fn plain(key: &str) -> Self {
        Self::new(key, |a| a.status == 200, |a| a.status == 401)
    }

    pub fn promise_nothing(&self) {
        self.promise.store(NONE, SeqCst);
    }

    pub fn promise_good(&self) {
        self.promise.store(GOOD, SeqCst);
    }

    /// From here on a target is never promised to be good again: make another.
    pub fn promise_refused(&self) {
        self.promise.store(REFUSED, SeqCst);
    }

    /// Whether this answer breaks a promise that held from before its request was sent until now.
    pub fn breaks(&self, answer: &Answer, promised: u8) -> bool {
        self.promise.load(SeqCst) == promised
            && match promised {
                GOOD => !(self.good)(answer),
                REFUSED => !(self.refused)(answer),
                _ => false,
            }
    }
}

/// The keys that are used now, one per place, and what went wrong with them.
#[derive(Default)]
pub struct Targets {
    places: Vec<Mutex<Option<Arc<Target>>>>,
    violations: Mutex<Vec<String>>,
}

impl Targets {
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places: (0..places).map(|_| Mutex::default()).collect(),
            violations: Mutex::default(),
        })
    }

    pub fn set(&self, place: usize, target: &Arc<Target>) {
        *self.places[place].lock().unwrap() = Some(target.clone());
    }

    /// Uses them on all of these servers; `pause` is how long a client rests between two rounds.
    pub fn load(self: &Arc<Self>, bases: &[String], pause: Duration) -> Load {
        let targets = self.clone();
        Load::on(bases, move |number, wire| {
            for place in &targets.places {
                if let Some(target) = place.lock().unwrap().clone() {
                    let promised = target.promise.load(SeqCst);
                    let answer = wire.ask(&target.key);
                    // No answer at all is of a server that was killed.
                    if let Some(answer) = answer.filter(|answer| target.breaks(answer, promised)) {
                        targets.complain(format!("under load, instance {number}: {answer:?}"));
                    }
                }
            }
            thread::sleep(pause);
        })
    }

    pub fn complain(&self, violation: String) {
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
