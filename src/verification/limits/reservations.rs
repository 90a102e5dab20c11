//! Takes units of quotas in the database and gives them back. Concurrent requests share a transaction.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::tasks::Tasks;
use crate::{
    db::{Conn, Db},
    domain::{error::Error, limit::Quota},
    models::quota_usage::{self, Demand, QuotaPeriod, Reserved},
};

/// Maximum number of orders per transaction. It bounds the time that the orders behind it wait.
const BATCH: usize = 256;
/// Maximum number of waiting orders of each kind. Beyond it, reservations get 503 at once, and returned units are lost
/// to the owner of the quota.
const MAX_WAITING: usize = 100_000;

/// Queues of reservations and returns. Clones share them.
#[derive(Clone)]
pub(super) struct Reservations {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    tasks: Tasks,
    orders: Mutex<Orders>,
    /// Number of blocks that were taken.
    taken: AtomicU64,
}

/// Waiting orders of both kinds.
#[derive(Default)]
struct Orders {
    reservations: VecDeque<Order>,
    returns: VecDeque<(QuotaPeriod, u64)>,
    /// Notified when there are no more returns that can be done now.
    finish_waiters: Vec<oneshot::Sender<()>>,
    /// True for each [`Kind`] whose worker is running.
    is_running: [bool; 2],
}

/// Kind of order. Each kind has its own worker, so that reservations do not wait for returns.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Reservations,
    Returns,
}

struct Order {
    period: QuotaPeriod,
    quota: Quota,
    demand: Demand,
    /// Units to give back first, in the same transaction.
    stale: Option<(QuotaPeriod, u64)>,
    reply: oneshot::Sender<Result<Reserved, Error>>,
}

impl Reservations {
    pub(super) fn new(db: Db, tasks: Tasks) -> Self {
        Self {
            shared: Arc::new(Shared {
                db,
                tasks,
                orders: Mutex::default(),
                taken: AtomicU64::new(0),
            }),
        }
    }

    /// Gives `stale` back, then takes the demanded units or as many of them as are left. If it fails, units may have
    /// been taken nevertheless; those are never spent.
    pub(super) async fn reserve(
        &self,
        period: QuotaPeriod,
        quota: Quota,
        demand: Demand,
        stale: Option<(QuotaPeriod, u64)>,
    ) -> Result<Reserved, Error> {
        let (reply, reserved) = oneshot::channel();
        {
            let mut orders = self.shared.orders();
            if orders.reservations.len() >= MAX_WAITING {
                return Err(Error::Unavailable(
                    "too many requests wait for quota units".into(),
                ));
            }
            orders.reservations.push_back(Order {
                period,
                quota,
                demand,
                stale,
                reply,
            });
            self.start_worker(&mut orders, Kind::Reservations);
        }
        let dropped = |_| Error::Unavailable("a quota reservation was dropped".into());
        reserved.await.map_err(dropped)?
    }

    /// Returns the number of blocks that were taken.
    pub(super) fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Gives units back as soon as the database is reachable. A return that fails then is not repeated: it may have
    /// succeeded.
    pub(super) fn give_back(&self, period: QuotaPeriod, units: u64) {
        let mut orders = self.shared.orders();
        if orders.returns.len() < MAX_WAITING {
            orders.returns.push_back((period, units));
        }
        self.start_worker(&mut orders, Kind::Returns);
    }

    /// Retries the returns that wait for the database.
    pub(super) fn retry(&self) {
        let mut orders = self.shared.orders();
        if !orders.returns.is_empty() {
            self.start_worker(&mut orders, Kind::Returns);
        }
    }

    /// Waits until all earlier returns are done, or the database turns out to be unreachable.
    pub(super) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        {
            let mut orders = self.shared.orders();
            orders.finish_waiters.push(done);
            self.start_worker(&mut orders, Kind::Returns);
        }
        let _ = finished.await;
    }

    /// Starts the worker for a kind of orders, unless it runs.
    fn start_worker(&self, orders: &mut Orders, kind: Kind) {
        if !std::mem::replace(&mut orders.is_running[kind as usize], true) {
            let worker = Worker {
                shared: self.shared.clone(),
                kind,
                has_ended: false,
            };
            self.shared.tasks.spawn(worker.run());
        }
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock()
    }
}

/// Task that handles the orders of one kind until none is left that can be done. However it ends, the next worker can
/// start.
struct Worker {
    shared: Arc<Shared>,
    kind: Kind,
    has_ended: bool,
}

impl Worker {
    async fn run(mut self) {
        match self.kind {
            Kind::Reservations => {
                while let Some(batch) = self.next(|orders| &mut orders.reservations) {
                    self.reserve(batch).await;
                }
            }
            Kind::Returns => {
                while let Some(batch) = self.next(|orders| &mut orders.returns) {
                    if !self.give_back(batch).await {
                        self.end(&mut self.shared.clone().orders());
                        return;
                    }
                }
            }
        }
    }

    /// Returns the next batch, for one transaction. If there is none, marks the worker as ended.
    fn next<T>(&mut self, waiting: impl Fn(&mut Orders) -> &mut VecDeque<T>) -> Option<Vec<T>> {
        let shared = self.shared.clone();
        let mut orders = shared.orders();
        let waiting = waiting(&mut orders);
        let length = waiting.len().min(BATCH);
        if length > 0 {
            return Some(waiting.drain(..length).collect());
        }
        self.end(&mut orders);
        None
    }

    fn end(&mut self, orders: &mut Orders) {
        orders.is_running[self.kind as usize] = false;
        self.has_ended = true;
        if let Kind::Returns = self.kind {
            for waiter in orders.finish_waiters.drain(..) {
                let _ = waiter.send(());
            }
        }
    }

    async fn reserve(&self, mut reservations: Vec<Order>) {
        // Instances that take from the same quotas lock their rows in the same order: no deadlock.
        reservations.sort_by_key(|order| order.period);
        let wanted: Vec<_> = reservations
            .iter()
            .map(|order| (order.period, order.quota, order.demand, order.stale))
            .collect();
        let reserve = move |conn: &mut Conn| {
            let mut reserved = Vec::new();
            for (period, quota, demand, stale) in wanted {
                if let Some((period, units)) = stale {
                    quota_usage::give_back(conn, period, units)?;
                }
                reserved.push(quota_usage::reserve(conn, period, quota, demand)?);
            }
            Ok(reserved)
        };
        match self.shared.db.write(reserve).await {
            Ok(reserved) => {
                let blocks = reserved.iter().filter(|block| block.units > 0).count();
                self.shared
                    .taken
                    .fetch_add(blocks as u64, Ordering::Relaxed);
                for (order, reserved) in reservations.into_iter().zip(reserved) {
                    let period = order.period;
                    if let Err(Ok(Reserved { units, .. })) = order.reply.send(Ok(reserved)) {
                        // The counter no longer waits for the units.
                        self.shared.orders().returns.push_back((period, units));
                    }
                }
            }
            Err(error) => {
                // Orders that have arrived since would wait just as long, and also in vain.
                reservations.extend(self.shared.orders().reservations.drain(..));
                for order in reservations {
                    let _ = order.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Gives units back in one transaction. Returns false if the worker should stop.
    async fn give_back(&self, mut returns: Vec<(QuotaPeriod, u64)>) -> bool {
        if self.shared.db.ping().await.is_err() {
            self.shared.orders().returns.extend(returns);
            return false;
        }
        returns.sort_by_key(|(period, _)| *period);
        let give_back = move |conn: &mut Conn| {
            for (period, units) in returns {
                quota_usage::give_back(conn, period, units)?;
            }
            Ok(())
        };
        let given_back = self.shared.db.write(give_back).await;
        if let Err(error) = &given_back {
            let cause = error.cause();
            tracing::warn!(
                cause,
                "failed to give unused quota units back: they count as used"
            );
        }
        given_back.is_ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.orders().is_running[self.kind as usize] = false;
        }
    }
}
