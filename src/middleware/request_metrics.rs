//! How long requests take, by method, route and status: measured where each worker has it for itself.

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

/// The methods that are told apart; clients may send any.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];
const OTHER: usize = METHODS.len() - 1;

/// The route of what no route fits: a client may ask for anything.
const UNMATCHED: &str = "unmatched";

/// Pages that are not in the document, as the router calls them.
const PAGES: [&str; 4] = ["/", "/docs", "/docs/{_:.*}", "/openapi.json"];

/// Microseconds: from a check that is answered from memory to all that a client will wait.
const BOUNDS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// The requests of all workers.
pub struct Requests {
    /// What may stand as a route, and nothing else: the last one is for all that is not there.
    routes: Vec<String>,
    /// Each worker's, each made at the first request like it.
    measured: Mutex<Vec<Arc<Series>>>,
}

/// Requests of one worker that are alike.
struct Series {
    route: usize,
    method: usize,
    status: u16,
    durations: Durations,
}

/// Requests of all workers that were alike.
#[derive(Debug)]
pub(crate) struct Alike<'a> {
    pub route: &'a str,
    pub method: &'static str,
    pub status: u16,
    pub measured: Measured,
}

impl Requests {
    /// For the routes of this document.
    pub fn of(document: &OpenApi) -> Arc<Self> {
        let pages = PAGES.into_iter().chain([UNMATCHED]).map(str::to_owned);
        Arc::new(Self {
            routes: document.paths.paths.keys().cloned().chain(pages).collect(),
            measured: Mutex::default(),
        })
    }

    /// For one worker, as its app's data.
    pub fn meter(self: &Arc<Self>) -> RequestMeter {
        let routes = self.routes.iter().enumerate();
        RequestMeter(Rc::new(OfWorker {
            places: routes
                .map(|(place, route)| (route.clone(), place))
                .collect(),
            series: RefCell::new(vec![Vec::new(); self.routes.len() * METHODS.len()]),
            shared: self.clone(),
        }))
    }

    /// What was measured so far, in order.
    pub(crate) fn measured(&self) -> Vec<Alike<'_>> {
        let mut sums = BTreeMap::new();
        for series in self.series().iter() {
            let measured = series.durations.measured();
            let sum = sums.entry((series.route, series.method, series.status));
            sum.and_modify(|sum: &mut Measured| sum.add(&measured))
                .or_insert(measured);
        }
        let alike = |((route, method, status), measured): ((usize, usize, u16), _)| Alike {
            route: &self.routes[route],
            method: METHODS[method],
            status,
            measured,
        };
        sums.into_iter().map(alike).collect()
    }

    fn series(&self) -> MutexGuard<'_, Vec<Arc<Series>>> {
        self.measured.lock()
    }
}

/// Measures the requests of one worker. No other thread writes to what it writes to.
#[derive(Clone)]
pub struct RequestMeter(Rc<OfWorker>);

struct OfWorker {
    places: HashMap<String, usize>,
    /// By route and method, then by status: of those there are few.
    series: RefCell<Vec<Vec<Arc<Series>>>>,
    shared: Arc<Requests>,
}

impl RequestMeter {
    /// The place of the route that fits a request. Where its path is the whole pattern, as on all that
    /// is asked for often, it is not looked for again.
    pub(super) fn route(&self, request: &ServiceRequest) -> usize {
        let plain = self.0.places.get(request.path()).copied();
        let found = plain.or_else(|| {
            let pattern = request.match_pattern()?;
            self.0.places.get(&pattern).copied()
        });
        found.unwrap_or(self.unmatched())
    }

    /// Notes how long a request took.
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
            .position(|known| *known == name)
            .unwrap_or(OTHER);
        let status = status.as_u16();
        let mut series = self.0.series.borrow_mut();
        let Some(alike) = series.get_mut(route * METHODS.len() + method) else {
            return;
        };
        if let Some(known) = alike.iter().find(|series| series.status == status) {
            return known.durations.observe(took);
        }
        let new = Arc::new(Series {
            route,
            method,
            status,
            durations: Durations::new(BOUNDS),
        });
        new.durations.observe(took);
        self.0.shared.series().push(new.clone());
        alike.push(new);
    }

    fn unmatched(&self) -> usize {
        self.0.shared.routes.len() - 1
    }
}
