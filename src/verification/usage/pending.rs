//! Counts that were collected and are not in the database yet.

use std::collections::BTreeMap;

use super::tally::Hour;
use crate::{
    domain::{
        id::{ApiKeyId, SubjectId, UserId},
        usage::Outcome,
    },
    models::usage::Count,
};

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// `None` for what is no key.
    pub key: Option<(ApiKeyId, UserId)>,
    pub hour: Hour,
    pub outcome: Outcome,
}

/// What waits.
pub(super) struct Pending {
    counts: BTreeMap<Place, u64>,
    max_places: usize,
}

impl Pending {
    pub(super) fn new(max_places: usize) -> Self {
        Self {
            counts: BTreeMap::new(),
            max_places,
        }
    }

    /// Keeps a count; whether there was room.
    pub(super) fn add(&mut self, place: Place, count: u64) -> bool {
        if let Some(waiting) = self.counts.get_mut(&place) {
            *waiting += count;
            return true;
        }
        let has_room = self.counts.len() < self.max_places;
        if has_room {
            self.counts.insert(place, count);
        }
        has_room
    }

    /// Takes up to so many places out.
    pub(super) fn take(&mut self, places: usize) -> Vec<(Place, u64)> {
        let taken = std::iter::from_fn(|| self.counts.pop_first());
        taken.take(places).collect()
    }
}

/// As they are written: each for its key, whoever that belongs to, and the service. The keys come first,
/// since a row that many write is best locked last.
pub(super) fn rows(taken: &[(Place, u64)]) -> Vec<Count> {
    let mut rows = BTreeMap::<(u8, SubjectId, Hour, Outcome), u64>::new();
    for (place, count) in taken {
        let mut add = |turn, subject| {
            let row = (turn, subject, place.hour, place.outcome);
            *rows.entry(row).or_default() += count;
        };
        if let Some((key, user)) = place.key {
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
