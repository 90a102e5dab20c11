//! Ends waits for PostgreSQL that last longer than they may.
//!
//! libpq waits for a response without a time limit. `statement_timeout` and TCP keepalive end most waits,
//! but not the wait for a network hop that acknowledges every packet and passes none on, as a load
//! balancer does after a failover. So each connection has a [`Watch`] with the deadline of what it waits
//! for. One thread compares all deadlines with the time and shuts the sockets of those that are late:
//! libpq then reports a lost connection, and the thread that called it goes on.
//!
//! Arming a watch is an atomic store. The thread sleeps until the earliest deadline, and without limit
//! while no watch is armed.

use std::{
    io,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::socket::Socket;

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// The time limit of what one connection waits for.
pub(crate) struct Watch {
    socket: Socket,
    /// Microseconds since [`epoch`].
    deadline: AtomicU64,
    /// Microseconds that a statement may take.
    statement_limit: AtomicU64,
    /// The time when the present wait began, in microseconds since [`epoch`].
    began: AtomicU64,
    has_fired: AtomicBool,
}

impl Watch {
    /// Registers a connection that is about to be made, whose socket is going to be `socket`.
    pub(super) fn new(socket: Socket) -> io::Result<Arc<Self>> {
        let watch = Arc::new(Self {
            socket,
            deadline: AtomicU64::new(NEVER),
            statement_limit: AtomicU64::new(NEVER),
            began: AtomicU64::new(0),
            has_fired: AtomicBool::new(false),
        });
        WATCHDOG.register(&watch)?;
        Ok(watch)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sets how long each statement may take from now on.
    pub(crate) fn limit_statements(&self, limit: Duration) {
        self.statement_limit.store(micros(limit), SeqCst);
    }

    /// Begins a wait for a response to a statement. It ends after the statement limit, or at `deadline`
    /// if that comes first.
    pub(super) fn begin_statement(&self, deadline: Option<Instant>) {
        let now = Instant::now();
        let limit = Duration::from_micros(self.statement_limit.load(SeqCst).min(NEVER >> 1));
        let limited = now.checked_add(limit);
        if let Some(until) = limited.into_iter().chain(deadline).min() {
            self.begin(now, until);
        }
    }

    /// Begins a wait that ends at `until`.
    pub(super) fn begin(&self, now: Instant, until: Instant) {
        self.began.store(since_epoch(now), SeqCst);
        self.deadline.store(since_epoch(until), SeqCst);
        WATCHDOG.wake_for(since_epoch(until));
    }

    /// Ends the wait.
    pub(super) fn end(&self) {
        self.deadline.store(NEVER, SeqCst);
    }

    /// Returns when the wait began whose deadline passed, if one did. Then the connection is lost.
    pub(crate) fn hung_since(&self) -> Option<Instant> {
        let began = Duration::from_micros(self.began.load(SeqCst));
        self.has_fired.load(SeqCst).then(|| epoch() + began)
    }

    fn fire(&self, deadline: u64) {
        let is_late = self
            .deadline
            .compare_exchange(deadline, NEVER, SeqCst, SeqCst);
        if is_late.is_ok() {
            self.has_fired.store(true, SeqCst);
            self.socket.shut_down();
        }
    }
}

struct Watchdog {
    watches: Mutex<Vec<Weak<Watch>>>,
    thread: Mutex<Option<Thread>>,
    /// The time when the thread looks next.
    wakes_at: AtomicU64,
}

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(|| Watchdog {
    watches: Mutex::default(),
    thread: Mutex::default(),
    wakes_at: AtomicU64::new(NEVER),
});

impl Watchdog {
    fn register(&'static self, watch: &Arc<Watch>) -> io::Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let spawned = thread::Builder::new()
                .name("database-watchdog".to_owned())
                .spawn(|| WATCHDOG.run())?;
            *thread = Some(spawned.thread().clone());
        }
        drop(thread);
        let mut watches = self.watches.lock();
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(watch));
        Ok(())
    }

    /// Wakes the thread if it sleeps for longer than until `deadline`.
    fn wake_for(&self, deadline: u64) {
        if deadline < self.wakes_at.load(SeqCst) {
            let thread = self.thread.lock();
            if let Some(thread) = &*thread {
                thread.unpark();
            }
        }
    }

    fn run(&self) {
        loop {
            // Whoever arms a watch from here on wakes the thread: none is missed between the look and
            // the sleep.
            self.wakes_at.store(NEVER, SeqCst);
            let now = since_epoch(Instant::now());
            let earliest = self.look(now);
            self.wakes_at.store(earliest, SeqCst);
            match earliest {
                NEVER => thread::park(),
                deadline => thread::park_timeout(Duration::from_micros(deadline - now)),
            }
        }
    }

    /// Fires the watches that are late at `now`. Returns the earliest deadline of the others.
    fn look(&self, now: u64) -> u64 {
        let watches: Vec<_> = {
            let watches = self.watches.lock();
            watches.iter().filter_map(Weak::upgrade).collect()
        };
        let mut earliest = NEVER;
        for watch in watches {
            let deadline = watch.deadline.load(SeqCst);
            if deadline <= now {
                watch.fire(deadline);
            } else {
                earliest = earliest.min(deadline);
            }
        }
        earliest
    }
}

/// A moment before any wait.
fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

fn since_epoch(at: Instant) -> u64 {
    micros(at.saturating_duration_since(epoch()))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(NEVER)
}
