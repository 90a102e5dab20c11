//! `take.lua`, in a real Redis and at moments of the tests' choice, beside the bucket that it has to be.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "nobody but these tests sees it")]

#[expect(dead_code, unused_imports, reason = "made for tests/api as well")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/repetitions.rs"]
mod repetitions;

mod any;
mod script;

mod hands;
mod loss;
mod same_bucket;
