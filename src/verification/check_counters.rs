//! Counters of checks by outcome and by the source of the key's data.

use super::rejection::Rejection;
use crate::{
    domain::{error::Error, usage::Outcome},
    telemetry::counters::Striped,
};

/// Source of the data that a check is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupSource {
    /// No source: a malformed key is rejected without a lookup.
    None,
    Cache,
    Database,
}

const SOURCES: [&str; 3] = ["none", "cache", "database"];

/// Index of checks that failed with an error, after those of all outcomes.
const ERROR: usize = Outcome::ALL.len();

/// Counters of checks since the start.
#[derive(Default)]
pub(super) struct CheckCounters {
    checks: Striped<{ (ERROR + 1) * SOURCES.len() }>,
}

/// Number of checks with one outcome and one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Code of the outcome, or `error`.
    pub outcome: &'static str,
    /// Source of the key's data: `cache`, `database`, or `none` for a malformed key.
    pub source: &'static str,
    pub count: u64,
}

impl CheckCounters {
    /// Counts one check.
    pub(super) fn record(&self, result: Result<Option<&Rejection>, &Error>, source: LookupSource) {
        let outcome = match result {
            Ok(rejection) => Outcome::of(rejection) as usize,
            Err(_) => ERROR,
        };
        self.checks.add(outcome * SOURCES.len() + source as usize);
    }

    /// Returns the counters of all combinations that can occur. Without a lookup, the only outcome is `not_found`.
    pub(super) fn checks(&self) -> Vec<Checks> {
        let names = Outcome::ALL.map(Outcome::as_str);
        let outcomes = names.into_iter().chain(["error"]);
        let all = outcomes.flat_map(|outcome| {
            let with_source = move |source| Checks {
                outcome,
                source,
                count: 0,
            };
            SOURCES.into_iter().map(with_source)
        });
        let can_occur = |checks: &Checks| {
            checks.source != SOURCES[0] || checks.outcome == Outcome::NotFound.as_str()
        };
        all.zip(self.checks.sum())
            .map(|(checks, count)| Checks { count, ..checks })
            .filter(can_occur)
            .collect()
    }
}
