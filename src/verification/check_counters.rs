//! How often keys were checked, by what came of it and by what it was known from.

use crate::verification::rejection::Rejection;
use crate::{
    domain::{error::Error, usage::Outcome},
    telemetry::counters::Striped,
};

/// What a check goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Nothing: a malformed key needs no look.
    None,
    Cache,
    Database,
}

const SOURCES: [&str; 3] = ["none", "cache", "database"];

/// What nobody could tell comes after all outcomes.
const ERROR: usize = Outcome::ALL.len();

/// Checks so far.
#[derive(Default)]
pub(super) struct CheckCounters {
    checks: Striped<{ (ERROR + 1) * SOURCES.len() }>,
}

/// How many checks had this outcome, by what they went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// An outcome's code, or `error`.
    pub outcome: &'static str,
    /// `cache`, `database`, or `none`.
    pub source: &'static str,
    pub count: u64,
}

impl CheckCounters {
    pub(super) fn note(&self, came: Result<Option<&Rejection>, &Error>, source: Source) {
        let outcome = match came {
            Ok(refusal) => Outcome::of(refusal) as usize,
            Err(_) => ERROR,
        };
        self.checks.add(outcome * SOURCES.len() + source as usize);
    }

    /// Of those that can be: a key that nobody looked for is not found.
    pub(super) fn checks(&self) -> Vec<Checks> {
        let names = Outcome::ALL.map(Outcome::as_str);
        let outcomes = names.into_iter().chain(["error"]);
        let all = outcomes.flat_map(|outcome| {
            let of_source = move |source| Checks {
                outcome,
                source,
                count: 0,
            };
            SOURCES.into_iter().map(of_source)
        });
        let can_be = |checks: &Checks| {
            checks.source != SOURCES[0] || checks.outcome == Outcome::NotFound.as_str()
        };
        all.zip(self.checks.sum())
            .map(|(checks, count)| Checks { count, ..checks })
            .filter(can_be)
            .collect()
    }
}
