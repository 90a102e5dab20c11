//! Error about usage data that is lost on shutdown.

/// Error raised when the database did not accept all usage data before shutdown.
#[derive(Debug, thiserror::Error)]
#[error(
    "lost usage data that the database did not accept before shutdown: {counts} counted checks, and the time of last \
     use of {keys} keys"
)]
pub struct UnwrittenUsage {
    /// Number of counted checks that are lost.
    pub counts: u64,
    /// Number of keys whose time of last use is lost.
    pub keys: usize,
}
