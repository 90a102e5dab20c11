//! Takes units of quotas in the database, and gives them back: what is asked for at the same time, in one
//! transaction.

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

/// Orders of one transaction: nobody waits long behind it.
const BATCH: usize = 256;
/// Orders of each kind that may wait. Past it they are told 503 at once, or lost to the owner.
const MAX_WAITING: usize = 100_000;

/// Clones share what waits.
#[derive(Clone)]
pub(super) struct Reservations {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    tasks: Tasks,
    orders: Mutex<Orders>,
    /// Blocks that were taken.
    taken: AtomicU64,
}

/// What waits, and whether somebody serves it.
#[derive(Default)]
struct Orders {
    reservations: VecDeque<Order>,
    returns: VecDeque<(QuotaPeriod, u64)>,
    /// Who waits until there are no returns that can be done.
    finishing: Vec<oneshot::Sender<()>>,
    /// Whether somebody serves each kind.
    is_served: [bool; 2],
}

/// What is served by itself: who wants units does not wait for those that are given back.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Reservations,
    Returns,
}

struct Order {
    period: QuotaPeriod,
    quota: Quota,
    demand: Demand,
    /// What is given back before, in the same transaction.
    stale: Option<(QuotaPeriod, u64)>,
    answer: oneshot::Sender<Result<Reserved, Error>>,
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

    /// Takes what is wanted, or as much of it as there is, after `stale` is given back. If it fails, units
    /// may have been taken all the same; nobody spends those.
    pub(super) async fn reserve(
        &self,
        period: QuotaPeriod,
        quota: Quota,
        demand: Demand,
        stale: Option<(QuotaPeriod, u64)>,
    ) -> Result<Reserved, Error> {
        let (answer, reserved) = oneshot::channel();
        {
            let mut orders = self.shared.orders();
            if orders.reservations.len() >= MAX_WAITING {
                return Err(Error::Unavailable("too many wait for their quota".into()));
            }
            orders.reservations.push_back(Order {
                period,
                quota,
                demand,
                stale,
                answer,
            });
            self.serve(&mut orders, Kind::Reservations);
        }
        let given_up = |_| Error::Unavailable("a reservation was given up".into());
        reserved.await.map_err(given_up)?
    }

    /// How many blocks were taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Gives units back, as soon as the database can be reached. If it fails then, they are not given back
    /// again: it may have happened.
    pub(super) fn give_back(&self, period: QuotaPeriod, units: u64) {
        let mut orders = self.shared.orders();
        if orders.returns.len() < MAX_WAITING {
            orders.returns.push_back((period, units));
        }
        self.serve(&mut orders, Kind::Returns);
    }

    /// Gives back what could not be given back yet.
    pub(super) fn retry(&self) {
        let mut orders = self.shared.orders();
        if !orders.returns.is_empty() {
            self.serve(&mut orders, Kind::Returns);
        }
    }

    /// Waits until everything is done that was ordered before, unless it cannot be done now.
    pub(super) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        {
            let mut orders = self.shared.orders();
            orders.finishing.push(done);
            self.serve(&mut orders, Kind::Returns);
        }
        let _ = finished.await;
    }

    /// Has somebody serve what waits.
    fn serve(&self, orders: &mut Orders, kind: Kind) {
        if !std::mem::replace(&mut orders.is_served[kind as usize], true) {
            let service = Service {
                shared: self.shared.clone(),
                kind,
                is_over: false,
            };
            self.shared.tasks.spawn(service.run());
        }
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock()
    }
}

/// Serves until nothing waits any more that can be done. However it ends, the next can begin.
struct Service {
    shared: Arc<Shared>,
    kind: Kind,
    is_over: bool,
}

impl Service {
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

    /// The next that are done in one transaction. Where there are none it is over.
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
        orders.is_served[self.kind as usize] = false;
        self.is_over = true;
        if let Kind::Returns = self.kind {
            for finishing in orders.finishing.drain(..) {
                let _ = finishing.send(());
            }
        }
    }

    async fn reserve(&self, mut reservations: Vec<Order>) {
        // Two instances that take of the same accounts lock them in the same order.
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
                    if let Err(Ok(Reserved { units, .. })) = order.answer.send(Ok(reserved)) {
                        // Nobody takes it into a hand.
                        self.shared.orders().returns.push_back((period, units));
                    }
                }
            }
            Err(error) => {
                // Who has come since would wait as long again, and again in vain.
                reservations.extend(self.shared.orders().reservations.drain(..));
                for order in reservations {
                    let _ = order.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Whether it is worth going on.
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
            tracing::warn!(cause, "quota that was in hand could not be given back");
        }
        given_back.is_ok()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.orders().is_served[self.kind as usize] = false;
        }
    }
}
