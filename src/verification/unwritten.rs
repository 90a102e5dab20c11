//! What is lost at an orderly end.

/// The database did not take it.
#[derive(Debug, thiserror::Error)]
#[error(
    "lost what the database did not take before the end: {counts} counted checks, and when {keys} keys were last used"
)]
pub struct Unwritten {
    pub counts: u64,
    pub keys: usize,
}
