//! Durations of requests by method, route and status. Each worker measures its own, without contention.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    dev::ServiceRequest,
    http::{Method, StatusCode},
};
use parking_lot::{Mutex, MutexGuard};
use utoipa::openapi::OpenApi;

use crate::telemetry::counters::{Durations, Measured};

/// Methods with a label of their own. Clients may send any other.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];
const OTHER: usize = METHODS.len() - 1;

/// Label of requests that no route matches. Clients may request any path, so paths are not labels.
const UNMATCHED: &str = "unmatched";

/// Patterns of the pages that are not in the OpenAPI document.
const PAGES: [&str; 4] = ["/", "/docs", "/docs/{_:.*}", "/openapi.json"];

/// Upper bounds of the histogram buckets, in microseconds: from a cached key check to the longest wait of a client.
const BOUNDS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Measured requests of all workers.
pub struct Requests {
    /// All values of the route label. The last one is for requests that no route matches.
    routes: Vec<String>,
    /// Series of all workers. A series is created at its first request.
    series: Mutex<Vec<Arc<Series>>>,
}

/// Requests of one worker with the same labels.
struct Series {
    route: usize,
    method: usize,
    status: u16,
    durations: Durations,
}

/// Requests of all workers with the same labels.
#[derive(Debug)]
pub(crate) struct Alike<'a> {
    pub route: &'a str,
    pub method: &'static str,
    pub status: u16,
    pub measured: Measured,
}

impl Requests {
    /// Creates the collection for the routes of a document.
    pub fn of(document: &OpenApi) -> Arc<Self> {
        let pages = PAGES.into_iter().chain([UNMATCHED]).map(str::to_owned);
        Arc::new(Self {
            routes: document.paths.paths.keys().cloned().chain(pages).collect(),
            series: Mutex::default(),
        })
    }

    /// Creates the meter of one worker, for its app data.
    pub fn meter(self: &Arc<Self>) -> RequestMeter {
        let routes = self.routes.iter().enumerate();
        RequestMeter(Rc::new(WorkerMeter {
            route_indices: routes
                .map(|(index, route)| (route.clone(), index))
                .collect(),
            series: RefCell::new(vec![Vec::new(); self.routes.len() * METHODS.len()]),
            shared: self.clone(),
        }))
    }

    /// Returns the measurements so far, ordered by their labels.
    pub(crate) fn measured(&self) -> Vec<Alike<'_>> {
        let mut sums = BTreeMap::new();
        for series in self.series().iter() {
            let measured = series.durations.measured();
            let sum = sums.entry((series.route, series.method, series.status));
            sum.and_modify(|sum: &mut Measured| sum.add(&measured))
                .or_insert(measured);
        }
        let to_request = |((route, method, status), measured): ((usize, usize, u16), _)| Alike {
            route: &self.routes[route],
            method: METHODS[method],
            status,
            measured,
        };
        sums.into_iter().map(to_request).collect()
    }

    fn series(&self) -> MutexGuard<'_, Vec<Arc<Series>>> {
        self.series.lock()
    }
}

/// Meter for the requests of one worker. No other thread writes to its counters.
#[derive(Clone)]
pub struct RequestMeter(Rc<WorkerMeter>);

struct WorkerMeter {
    route_indices: HashMap<String, usize>,
    /// Series by route and method. The inner list is by status, and short.
    series: RefCell<Vec<Vec<Arc<Series>>>>,
    shared: Arc<Requests>,
}

impl RequestMeter {
    /// Returns the index of the route that matches a request. If the path equals a pattern, as for all frequent
    /// requests, the router is not consulted again.
    pub(super) fn route(&self, request: &ServiceRequest) -> usize {
        let by_path = self.0.route_indices.get(request.path()).copied();
        let found = by_path.or_else(|| {
            let pattern = request.match_pattern()?;
            self.0.route_indices.get(&pattern).copied()
        });
        found.unwrap_or(self.unmatched())
    }

    /// Records the duration of a request.
    pub(super) fn observe(
        &self,
        route: usize,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let name = method.as_str();
        let method = METHODS
            .iter()
            .position(|label| *label == name)
            .unwrap_or(OTHER);
        let status = status.as_u16();
        let mut series = self.0.series.borrow_mut();
        let Some(by_status) = series.get_mut(route * METHODS.len() + method) else {
            return;
        };
        if let Some(existing) = by_status.iter().find(|series| series.status == status) {
            return existing.durations.observe(took);
        }
        let new = Arc::new(Series {
            route,
            method,
            status,
            durations: Durations::new(BOUNDS),
        });
        new.durations.observe(took);
        self.0.shared.series().push(new.clone());
        by_status.push(new);
    }

    fn unmatched(&self) -> usize {
        self.0.shared.routes.len() - 1
    }
}
