//! Black-box tests over HTTP on several instances, real processes that share a database, under faults. One file per
//! fault or guarantee.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "only these tests use it")]

#[expect(dead_code, unused_imports, reason = "tests/api uses the rest")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/repetitions.rs"]
mod repetitions;

#[path = "../support/load.rs"]
mod load;

#[path = "../support/wire.rs"]
mod wire;

mod callers;
mod changes;
mod fleet;
mod redis_log;
mod traffic;

mod cache;
mod clocks;
mod database_outage;
mod embedded;
mod guarded_app;
mod hangs;
mod login_limits;
mod membership;
mod notifications;
mod paused;
mod quota_blocks;
mod quotas;
mod rate_limits;
mod redis_outage;
mod revocation;
mod stranded;
