//! Counts that were collected and are not yet in the database.

use std::collections::BTreeMap;

use super::counters::Hour;
use crate::{
    domain::{
        id::{ApiKeyId, SubjectId, UserId},
        usage::Outcome,
    },
    models::usage::Count,
};

/// Dimensions by which checks are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CountKey {
    /// API key and its owner. `None` for unknown keys.
    pub key: Option<(ApiKeyId, UserId)>,
    pub hour: Hour,
    pub outcome: Outcome,
}

/// Bounded table of counts that wait to be written.
pub(super) struct PendingCounts {
    counts: BTreeMap<CountKey, u64>,
    max_entries: usize,
}

impl PendingCounts {
    pub(super) fn new(max_entries: usize) -> Self {
        Self {
            counts: BTreeMap::new(),
            max_entries,
        }
    }

    /// Adds a count. Returns `false` if the table is full.
    pub(super) fn add(&mut self, count_key: CountKey, count: u64) -> bool {
        if let Some(pending) = self.counts.get_mut(&count_key) {
            *pending += count;
            return true;
        }
        let has_room = self.counts.len() < self.max_entries;
        if has_room {
            self.counts.insert(count_key, count);
        }
        has_room
    }

    /// Removes and returns at most `max` entries.
    pub(super) fn take(&mut self, max: usize) -> Vec<(CountKey, u64)> {
        let entries = std::iter::from_fn(|| self.counts.pop_first());
        entries.take(max).collect()
    }
}

/// Converts counts to rows: each count is added to its key, to the owner of the key, and to the whole service.
///
/// The rows of keys come first: rows that many transactions write should be locked last.
pub(super) fn rows(taken: &[(CountKey, u64)]) -> Vec<Count> {
    let mut rows = BTreeMap::<(u8, SubjectId, Hour, Outcome), u64>::new();
    for (count_key, count) in taken {
        let mut add = |rank, subject| {
            let row = (rank, subject, count_key.hour, count_key.outcome);
            *rows.entry(row).or_default() += count;
        };
        if let Some((key, user)) = count_key.key {
            add(0, key.into());
            add(1, user.into());
        }
        add(2, SubjectId::SERVICE);
    }
    rows.into_iter()
        .map(|((_, subject, hour, outcome), count)| Count {
            subject,
            start: hour.start(),
            outcome,
            count: i64::try_from(count).unwrap_or(i64::MAX),
        })
        .collect()
}
