//! Property tests of `take.lua` in a real Redis, at times that the tests choose, against the bucket in Rust.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "only these tests see it")]

#[expect(dead_code, unused_imports, reason = "made for tests/api as well")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/repetitions.rs"]
mod repetitions;

mod script;
mod strategies;

mod prefetch;
mod redis_loss;
mod same_bucket;
