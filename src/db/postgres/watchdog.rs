//! Ends waits for PostgreSQL that exceed their time limit.
//!
//! libpq waits for a response without a time limit. `statement_timeout` and TCP keepalive end most waits. They do not
//! end a wait behind a network hop that acknowledges every packet and forwards none, such as a load balancer after a
//! failover. So each connection has a [`Watch`] with the deadline of its current wait. One thread compares all
//! deadlines with the time and shuts down the sockets of overdue waits. libpq then reports a lost connection, and the
//! thread that called it continues.
//!
//! Arming a watch is an atomic store. The thread sleeps until the earliest deadline, or without limit while no watch
//! is armed.

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

/// Deadline of a watch that is not armed.
const NEVER: u64 = u64::MAX;
/// Deadline of a wait that is being ended.
const FIRING: u64 = NEVER - 1;

/// Time after which a socket that was not found is searched for again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Time limit of the waits of one connection.
pub(crate) struct Watch {
    socket: Socket,
    /// Deadline of the current wait, in microseconds since [`epoch`]. [`NEVER`] if the watch is not armed.
    deadline: AtomicU64,
    /// Time limit of a statement, in microseconds.
    statement_limit: AtomicU64,
    /// Time at which the current wait began, in microseconds since [`epoch`].
    began: AtomicU64,
    /// Time, in microseconds, after which the watch fires again if the socket was not found.
    retry_after: AtomicU64,
    /// Time at which a wait was ended, in microseconds since [`epoch`]. [`NEVER`] if none was.
    fired: AtomicU64,
    /// True once the failure to find the socket has been logged.
    was_missed: AtomicBool,
}

/// Wait that was ended because the response did not come in time. The connection is lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hang {
    pub began: Instant,
    pub lasted: Duration,
}

impl Watch {
    /// Registers a connection that is about to be opened on `socket`.
    pub(super) fn new(socket: Socket) -> io::Result<Arc<Self>> {
        let watch = Arc::new(Self {
            socket,
            deadline: AtomicU64::new(NEVER),
            statement_limit: AtomicU64::new(NEVER),
            began: AtomicU64::new(0),
            retry_after: AtomicU64::new(micros(RETRY_AFTER)),
            fired: AtomicU64::new(NEVER),
            was_missed: AtomicBool::new(false),
        });
        WATCHDOG.register(&watch)?;
        Ok(watch)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sets the time limit of the statements that begin from now on.
    pub(crate) fn limit_statements(&self, limit: Duration) {
        self.statement_limit.store(micros(limit), SeqCst);
    }

    /// Arms the watch for a statement. It fires after the statement limit, or at `deadline` if that comes first.
    pub(super) fn begin_statement(&self, deadline: Option<Instant>) {
        let now = Instant::now();
        let limit = Duration::from_micros(self.statement_limit.load(SeqCst).min(NEVER >> 1));
        let limited = now.checked_add(limit);
        if let Some(until) = limited.into_iter().chain(deadline).min() {
            self.begin(now, until, RETRY_AFTER);
        }
    }

    /// Arms the watch for the opening of the connection.
    ///
    /// During name resolution there is no socket yet. If the limit passes then, the wait gets the same time again.
    pub(super) fn begin_to_connect(&self, now: Instant, limit: Duration) {
        self.begin(now, now + limit, limit);
    }

    fn begin(&self, now: Instant, until: Instant, retry_after: Duration) {
        self.retry_after.store(micros(retry_after), SeqCst);
        self.began.store(since_epoch(now), SeqCst);
        self.deadline.store(since_epoch(until), SeqCst);
        WATCHDOG.wake_for(since_epoch(until));
    }

    /// Disarms the watch: the wait has ended.
    pub(super) fn end(&self) {
        self.deadline.store(NEVER, SeqCst);
    }

    /// Returns the wait that the watchdog ended, if any.
    pub(crate) fn hang(&self) -> Option<Hang> {
        let (began, fired) = (self.began.load(SeqCst), self.fired.load(SeqCst));
        (fired != NEVER).then(|| Hang {
            began: epoch() + Duration::from_micros(began),
            lasted: Duration::from_micros(fired.saturating_sub(began)),
        })
    }

    /// Ends the wait by shutting down the socket, unless the wait with this deadline has ended by itself.
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
        // If the wait has ended meanwhile, or another one has begun, the watch is left as it is.
        let retry_at = now.saturating_add(self.retry_after.load(SeqCst));
        if replace(FIRING, retry_at).is_ok() && !self.was_missed.swap(true, SeqCst) {
            tracing::warn!(
                "failed to end an overdue wait for PostgreSQL: its socket was not found; trying again"
            );
        }
    }
}

struct Watchdog {
    watches: Mutex<Vec<Weak<Watch>>>,
    thread: Mutex<Option<Thread>>,
    /// Time at which the thread wakes next, in microseconds since [`epoch`].
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

    /// Wakes the thread if it would sleep past `deadline`.
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
            // A watch that is armed from here on wakes the thread. So none is missed between the check and the
            // sleep.
            self.wakes_at.store(NEVER, SeqCst);
            let now = since_epoch(Instant::now());
            let earliest = self.fire_overdue(now);
            self.wakes_at.store(earliest, SeqCst);
            match earliest {
                NEVER => thread::park(),
                deadline => {
                    thread::park_timeout(Duration::from_micros(deadline.saturating_sub(now)));
                }
            }
        }
    }

    /// Fires the watches that are overdue at `now`. Returns the earliest deadline after that.
    fn fire_overdue(&self, now: u64) -> u64 {
        let watches: Vec<_> = {
            let watches = self.watches.lock();
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

/// Returns the start of the times in this module, which is before any wait.
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
