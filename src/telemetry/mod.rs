//! Logs, traces, and the counters that metrics are read from. [`crate::metrics`] exposes the counters.

pub mod counters;
pub mod logs;
pub mod traces;
