//! Atomic counters of one key, to which requests add until they are collected.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use crate::domain::{clock::UtcTime, usage::Outcome};

/// Number of low bits of a word that hold the count. The bits above hold the hour.
const COUNT_BITS: u32 = 40;

/// Hours since 1970-01-01T00:00Z. Never 0, which stands for no hour in a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hour(u32);

impl Hour {
    pub(super) fn of(at: UtcTime) -> Self {
        let last = i64::from(u32::MAX >> (COUNT_BITS - 32));
        let hour = (at.unix_seconds() / 3600).clamp(1, last);
        Self(u32::try_from(hour).unwrap_or(1))
    }

    /// Returns the start of the hour.
    pub(super) fn start(self) -> UtcTime {
        UtcTime::from_unix_seconds(i64::from(self.0) * 3600)
    }
}

/// Result of adding one to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// The counter already had counts of this hour.
    Counted,
    /// This is the first count since the counter was collected. The caller must arrange the next collection.
    First,
    /// This is the first count of its hour. It replaced this number of counts of another hour, which the caller must
    /// store.
    Replaced(Hour, u64),
}

/// Counter of one hour. The hour and the count are in one atomic word, so both change together.
#[derive(Default)]
pub(super) struct HourCounter(AtomicU64);

impl HourCounter {
    /// Adds one. No count is lost or doubled by concurrent calls of this and of [`HourCounter::take`]. A count that is
    /// added while the hour changes may be attributed to the previous hour.
    pub(super) fn record(&self, hour: Hour) -> Recorded {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if split(before).0 == hour.0 {
            Recorded::Counted
        } else {
            self.change_hour(hour)
        }
    }

    /// Changes the hour of the counter, which already includes the new count.
    #[cold]
    fn change_hour(&self, hour: Hour) -> Recorded {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (current, count) = split(word);
            let (next, recorded) = match current {
                current if current == hour.0 => return Recorded::Counted,
                // The count includes those of all threads that have added to the counter since it was collected.
                0 => (join(hour, count), Recorded::First),
                current => {
                    let replaced = Recorded::Replaced(Hour(current), count.saturating_sub(1));
                    (join(hour, 1), replaced)
                }
            };
            let exchanged =
                self.0
                    .compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return recorded,
                Err(now) => word = now,
            }
        }
    }

    /// Takes all counts and resets the counter. Counts without an hour stay: the thread that added the first of them is
    /// about to set the hour.
    pub(super) fn take(&self) -> Option<(Hour, u64)> {
        let reset_if_hour_is_set = |word| (split(word).0 != 0).then_some(0);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, reset_if_hour_is_set);
        let (hour, count) = split(taken.ok()?);
        (count > 0).then_some((Hour(hour), count))
    }
}

fn split(word: u64) -> (u32, u64) {
    ((word >> COUNT_BITS) as u32, word & ((1 << COUNT_BITS) - 1))
}

fn join(hour: Hour, count: u64) -> u64 {
    u64::from(hour.0) << COUNT_BITS | count
}

/// Counters of one key, one for each outcome. Those of rejections are allocated on demand, since most keys are never
/// rejected.
#[derive(Default)]
pub(in crate::verification) struct UsageCounters {
    valid: HourCounter,
    rejected: OnceLock<Box<[HourCounter; Outcome::ALL.len() - 1]>>,
}

impl UsageCounters {
    pub(super) fn record(&self, outcome: Outcome, hour: Hour) -> Recorded {
        let Some(rejection) = (outcome as usize).checked_sub(1) else {
            return self.valid.record(hour);
        };
        self.rejected.get_or_init(Box::default)[rejection].record(hour)
    }

    /// Takes all counts and passes them to `each`.
    pub(super) fn take(&self, mut each: impl FnMut(Hour, Outcome, u64)) {
        let rejected = self
            .rejected
            .get()
            .into_iter()
            .flat_map(|counters| &**counters);
        for (outcome, counter) in Outcome::ALL
            .into_iter()
            .zip(std::iter::once(&self.valid).chain(rejected))
        {
            if let Some((hour, count)) = counter.take() {
                each(hour, outcome, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex, thread};

    use super::*;

    #[test]
    fn counts_are_not_lost_or_doubled_while_the_hour_changes_and_counters_are_collected() {
        const THREADS: u64 = 4;
        const EACH: u64 = 200_000;
        let counter = HourCounter::default();
        let collected = Mutex::new(BTreeMap::<u32, u64>::new());
        let add =
            |hour: Hour, count| *collected.lock().unwrap().entry(hour.0).or_default() += count;
        thread::scope(|threads| {
            for _ in 0..THREADS {
                threads.spawn(|| {
                    for i in 0..EACH {
                        // Some threads are behind others, and the hour also goes back.
                        let hour = Hour(7 + (i / 1000 % 50) as u32);
                        if let Recorded::Replaced(hour, count) = counter.record(hour) {
                            add(hour, count);
                        }
                    }
                });
            }
            threads.spawn(|| {
                for _ in 0..20_000 {
                    if let Some((hour, count)) = counter.take() {
                        add(hour, count);
                    }
                }
            });
        });
        if let Some((hour, count)) = counter.take() {
            add(hour, count);
        }
        let collected = collected.into_inner().unwrap();
        assert_eq!(collected.values().sum::<u64>(), THREADS * EACH);
        assert_eq!(counter.take(), None);
    }

    #[test]
    fn counter_separates_the_counts_of_different_hours() {
        let counter = HourCounter::default();
        assert_eq!(counter.record(Hour(7)), Recorded::First);
        assert_eq!(counter.record(Hour(7)), Recorded::Counted);
        assert_eq!(counter.record(Hour(8)), Recorded::Replaced(Hour(7), 2));
        assert_eq!(counter.take(), Some((Hour(8), 1)));
        assert_eq!(counter.take(), None);
        assert_eq!(counter.record(Hour(8)), Recorded::First);
    }

    #[test]
    fn counters_separate_the_counts_of_different_outcomes() {
        let counters = UsageCounters::default();
        let hour = Hour::of(UtcTime::parse("2026-11-25T13:59:59Z").expect("a time"));
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                counters.record(outcome, hour);
            }
        }
        let mut taken = Vec::new();
        counters.take(|taken_hour, outcome, count| {
            assert_eq!(taken_hour, hour);
            taken.push((outcome, count));
        });
        let expected: Vec<_> = Outcome::ALL.into_iter().zip(0..).skip(1).collect();
        assert_eq!(taken, expected);
        assert_eq!(
            hour.start(),
            UtcTime::parse("2026-11-25T13:00:00Z").expect("a time")
        );
    }
}
