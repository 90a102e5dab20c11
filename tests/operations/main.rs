//! Black box, on real processes: what whoever runs the service relies on, under load and while the world
//! around it goes wrong. A file per fault or promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "nobody but these tests sees it")]

#[expect(dead_code, unused_imports, reason = "made for tests/api as well")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/gateway.rs"]
mod runner;

#[expect(dead_code, reason = "tests/cluster uses the rest")]
#[path = "../cluster/load.rs"]
mod load;
#[expect(dead_code, reason = "tests/cluster uses the rest")]
#[path = "../cluster/wire.rs"]
mod wire;

mod exposition;
mod keys;
mod otlp;
mod raw;
mod volume;

mod backup;
mod connection_limits;
mod copy;
mod copy_refusals;
mod database_restarted;
mod deployment;
mod expectations;
mod full_disk;
mod health;
mod killed;
mod memory;
mod metrics;
mod metrics_documents;
mod metrics_listener;
mod pipelining;
mod read_only;
mod readiness;
mod request_framing;
mod slow_clients;
mod starts_and_stops;
mod stops_under_load;
mod stops_without_database;
mod tls;
mod tls_requests;
mod topology;
mod traces;
mod unreadable_requests;
mod upgrades;
mod usage;
