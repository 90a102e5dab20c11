//! Black-box tests on real processes for operators of the service: behavior under load and under faults. One file per
//! fault or guarantee.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "only these tests use it")]

#[expect(dead_code, unused_imports, reason = "tests/api uses the rest")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/repetitions.rs"]
mod repetitions;

#[path = "../support/gateway.rs"]
mod runner;

#[expect(dead_code, reason = "tests/cluster uses the rest")]
#[path = "../support/load.rs"]
mod load;
#[expect(dead_code, reason = "tests/cluster uses the rest")]
#[path = "../support/wire.rs"]
mod wire;

mod exposition;
mod keys;
mod otlp;
mod raw;
mod volume;

mod backup;
mod connection_limits;
mod copy;
mod copy_rejections;
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
mod repeated_signals;
mod request_framing;
mod reserve;
mod restored_file;
mod shutdown_under_load;
mod shutdown_without_database;
mod slow_clients;
mod startup_and_shutdown;
mod tls;
mod tls_requests;
mod topology;
mod traces;
mod unreadable_requests;
mod upgrades;
mod usage;
