//! Metrics for Prometheus, on a separate listener. `docs/metrics.md` lists them.
//!
//! Each scrape reads the counters and the state of the other modules. Nothing here is on the path of a request: each
//! module counts for itself.

mod exposition;
mod listener;
mod process;
mod service;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::web;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text},
    registry::Registry,
};

use self::exposition::Exposition;
pub use self::listener::{Listener, Listening};
use crate::{connection::counters::ConnectionCounters, middleware::Requests, state::State};

/// Sources of all metrics.
pub struct Metrics {
    state: web::Data<State>,
    requests: Arc<Requests>,
    connections: Arc<ConnectionCounters>,
    started: Duration,
}

impl Metrics {
    /// Creates the metrics. The current time counts as the start of the process.
    pub fn new(
        state: web::Data<State>,
        requests: Arc<Requests>,
        connections: Arc<ConnectionCounters>,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            state,
            requests,
            connections,
            started: started.unwrap_or_default(),
        }
    }

    /// Returns all metrics in Prometheus's text format, version 0.0.4.
    fn text(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Exposition::new(encoder);
        service::encode(&mut out, &self.state, &self.requests, &self.connections)?;
        process::encode(&mut out, self.started)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
