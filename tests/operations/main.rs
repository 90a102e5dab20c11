//! Black box, on real processes: what whoever runs the service relies on, under load and while the world
//! around it goes wrong. A file per fault or promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "nobody but these tests sees it")]

#[expect(dead_code, unused_imports, reason = "made for tests/api as well")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/repetitions.rs"]
mod repetitions;

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
mod embedded_file;
mod expectations;
mod faults;
mod full_disk;
mod health;
mod killed;
mod log_size;
mod memory;
mod metrics;
mod metrics_documents;
mod metrics_listener;
mod pipelining;
mod poolers;
mod postgres_settings;
mod read_only;
mod readiness;
mod readiness_for;
mod request_framing;
mod reserve;
mod restored_file;
mod slow_clients;
mod starts_and_stops;
mod stops_told_twice;
mod stops_under_load;
mod stops_without_database;
mod tls;
mod tls_requests;
mod topology;
mod traces;
mod unreadable_requests;
mod upgrades;
mod usage;
