//! Metrics, for Prometheus: what the other rooms count and know, told at each scrape on a listener of
//! its own. `docs/metrics.md` lists them.
//!
//! Nothing here is on a request's path: what is counted there is counted by its own room.

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

/// What is told.
pub struct Metrics {
    state: web::Data<State>,
    requests: Arc<Requests>,
    connections: Arc<ConnectionCounters>,
    started: Duration,
}

impl Metrics {
    /// Of a process that has just started.
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

    /// Prometheus's text format, version 0.0.4.
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
        let mut told = Exposition::new(encoder);
        service::tell(&mut told, &self.state, &self.requests, &self.connections)?;
        process::tell(&mut told, self.started)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
