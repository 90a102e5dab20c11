//! Black box over HTTP, on several real processes that share a database, while the world around them
//! goes wrong. A file per fault or promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "nobody but these tests sees it")]

#[expect(dead_code, unused_imports, reason = "made for tests/api as well")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/repetitions.rs"]
mod repetitions;

mod callers;
mod changes;
mod fleet;
mod load;
mod redis_said;
mod traffic;
mod wire;

mod cache;
mod clocks;
mod database_away;
mod embedded;
mod guarded_app;
mod hangs;
mod login_limits;
mod membership;
mod notifications;
mod quota_blocks;
mod quotas;
mod rate_limits;
mod redis_away;
mod revocation;
mod stopped;
mod stranded;
