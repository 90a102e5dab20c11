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
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::socket::Socket;

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;
/// The deadline of a wait that is being ended.
const FIRING: u64 = NEVER - 1;

/// The time after which a socket is looked for again that was not found.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The time limit of what one connection waits for.
pub(crate) struct Watch {
    socket: Socket,
    /// Microseconds since [`epoch`].
    deadline: AtomicU64,
    /// Microseconds that a statement may take.
    statement_limit: AtomicU64,
    /// The time when the present wait began, in microseconds since [`epoch`].
    began: AtomicU64,
    /// Microseconds after which it is ended again, if the socket was not found.
    again_after: AtomicU64,
    /// The time when a wait was ended, in microseconds since [`epoch`]; [`NEVER`] if none was.
    fired: AtomicU64,
    was_missed: AtomicBool,
}

/// A wait that was ended, since the response did not come in time. The connection is lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hang {
    pub began: Instant,
    pub lasted: Duration,
}

impl Watch {
    /// Registers a connection that is about to be made, whose socket is going to be `socket`.
    pub(super) fn new(socket: Socket) -> io::Result<Arc<Self>> {
        let watch = Arc::new(Self {
            socket,
            deadline: AtomicU64::new(NEVER),
            statement_limit: AtomicU64::new(NEVER),
            began: AtomicU64::new(0),
            again_after: AtomicU64::new(micros(AGAIN_AFTER)),
            fired: AtomicU64::new(NEVER),
            was_missed: AtomicBool::new(false),
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
            self.begin(now, until, AGAIN_AFTER);
        }
    }

    /// Begins the wait for a connection. While names are looked up there is no socket: then it has the time
    /// once more.
    pub(super) fn begin_to_connect(&self, now: Instant, limit: Duration) {
        self.begin(now, now + limit, limit);
    }

    fn begin(&self, now: Instant, until: Instant, again_after: Duration) {
        self.again_after.store(micros(again_after), SeqCst);
        self.began.store(since_epoch(now), SeqCst);
        self.deadline.store(since_epoch(until), SeqCst);
        WATCHDOG.wake_for(since_epoch(until));
    }

    /// Ends the wait.
    pub(super) fn end(&self) {
        self.deadline.store(NEVER, SeqCst);
    }

    /// Returns the wait that was ended, if one was.
    pub(crate) fn hang(&self) -> Option<Hang> {
        let (began, fired) = (self.began.load(SeqCst), self.fired.load(SeqCst));
        (fired != NEVER).then(|| Hang {
            began: epoch() + Duration::from_micros(began),
            lasted: Duration::from_micros(fired.saturating_sub(began)),
        })
    }

    /// Ends the wait, if it is still the one with this deadline.
    fn fire(&self, deadline: u64, now: u64) {
        let replace = |old, new| self.deadline.compare_exchange(old, new, SeqCst, SeqCst);
        if replace(deadline, FIRING).is_err() {
            return;
        }
        self.fired.store(now, SeqCst);
        if self.socket.shut_down() {
            let _ = replace(FIRING, NEVER);
            return;
        }
        self.fired.store(NEVER, SeqCst);
        // A wait that has ended meanwhile, or another one that has begun, is left alone.
        let again = now.saturating_add(self.again_after.load(SeqCst));
        if replace(FIRING, again).is_ok() && !self.was_missed.swap(true, SeqCst) {
            tracing::warn!(
                "a wait for PostgreSQL lasts longer than it may, and its socket is not found; looking again"
            );
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
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let spawned = thread::Builder::new()
                .name("database-watchdog".to_owned())
                .spawn(|| WATCHDOG.run())?;
            *thread = Some(spawned.thread().clone());
        }
        drop(thread);
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(watch));
        Ok(())
    }

    /// Wakes the thread if it sleeps for longer than until `deadline`.
    fn wake_for(&self, deadline: u64) {
        if deadline < self.wakes_at.load(SeqCst) {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
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
                deadline => {
                    thread::park_timeout(Duration::from_micros(deadline.saturating_sub(now)));
                }
            }
        }
    }

    /// Fires the watches that are late at `now`. Returns the earliest deadline after that.
    fn look(&self, now: u64) -> u64 {
        let watches: Vec<_> = {
            let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            watches.iter().filter_map(Weak::upgrade).collect()
        };
        let mut earliest = NEVER;
        for watch in watches {
            let deadline = watch.deadline.load(SeqCst);
            if deadline <= now {
                watch.fire(deadline, now);
            }
            earliest = earliest.min(watch.deadline.load(SeqCst));
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
