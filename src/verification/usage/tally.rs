//! Counts of one key that requests add to, until they are collected.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use crate::domain::{clock::UtcTime, usage::Outcome};

/// The bits of a word that hold the count. Those above hold the hour.
const COUNT_BITS: u32 = 40;

/// Hours since 1970. Never 0, which is no hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hour(u32);

impl Hour {
    pub(super) fn of(at: UtcTime) -> Self {
        let last = i64::from(u32::MAX >> (COUNT_BITS - 32));
        let hour = (at.unix_seconds() / 3600).clamp(1, last);
        Self(u32::try_from(hour).unwrap_or(1))
    }

    /// When it began.
    pub(super) fn start(self) -> UtcTime {
        UtcTime::from_unix_seconds(i64::from(self.0) * 3600)
    }
}

/// What became of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is with others of its hour.
    Counted,
    /// It is the first since the last were collected: somebody must see to it that this is.
    First,
    /// It is the first of its hour, in the place of so many of another.
    Instead(Hour, u64),
}

/// So many of one hour, in one word: what is added is added to both or neither.
#[derive(Default)]
pub(super) struct Word(AtomicU64);

impl Word {
    /// Adds one. No count is lost or doubled, whoever else adds and collects. Of those that are added
    /// while the hour turns some may be of the hour before.
    pub(super) fn note(&self, hour: Hour) -> Noted {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        match split(before).0 == hour.0 {
            true => Noted::Counted,
            false => self.turn(hour),
        }
    }

    /// Makes it one of this hour, with what was just added.
    #[cold]
    fn turn(&self, hour: Hour) -> Noted {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (of, count) = split(word);
            let (next, noted) = match of {
                of if of == hour.0 => return Noted::Counted,
                // Whoever added to it since it was collected does so now.
                0 => (join(hour, count), Noted::First),
                of => {
                    let others = Noted::Instead(Hour(of), count.saturating_sub(1));
                    (join(hour, 1), others)
                }
            };
            let exchanged =
                self.0
                    .compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return noted,
                Err(now) => word = now,
            }
        }
    }

    /// Takes what is counted. What has no hour yet is left to whoever is giving it one.
    pub(super) fn take(&self) -> Option<(Hour, u64)> {
        let has_an_hour = |word| (split(word).0 != 0).then_some(0);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_an_hour);
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

/// A word for each outcome. Most keys are only ever good.
#[derive(Default)]
pub(in crate::verification) struct Tally {
    valid: Word,
    refused: OnceLock<Box<[Word; Outcome::ALL.len() - 1]>>,
}

impl Tally {
    pub(super) fn note(&self, outcome: Outcome, hour: Hour) -> Noted {
        let Some(refusal) = (outcome as usize).checked_sub(1) else {
            return self.valid.note(hour);
        };
        self.refused.get_or_init(Box::default)[refusal].note(hour)
    }

    /// Takes all that is counted.
    pub(super) fn take(&self, mut each: impl FnMut(Hour, Outcome, u64)) {
        let refused = self.refused.get().into_iter().flat_map(|words| &**words);
        for (outcome, word) in Outcome::ALL
            .into_iter()
            .zip(std::iter::once(&self.valid).chain(refused))
        {
            if let Some((hour, count)) = word.take() {
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
    fn nothing_is_lost_or_doubled_while_the_hour_turns_and_counts_are_collected() {
        const THREADS: u64 = 4;
        const EACH: u64 = 200_000;
        let word = Word::default();
        let collected = Mutex::new(BTreeMap::<u32, u64>::new());
        let add =
            |hour: Hour, count| *collected.lock().unwrap().entry(hour.0).or_default() += count;
        thread::scope(|threads| {
            for _ in 0..THREADS {
                threads.spawn(|| {
                    for i in 0..EACH {
                        // Some threads are behind, and some clocks go back.
                        let hour = Hour(7 + (i / 1000 % 50) as u32);
                        if let Noted::Instead(hour, count) = word.note(hour) {
                            add(hour, count);
                        }
                    }
                });
            }
            threads.spawn(|| {
                for _ in 0..20_000 {
                    if let Some((hour, count)) = word.take() {
                        add(hour, count);
                    }
                }
            });
        });
        if let Some((hour, count)) = word.take() {
            add(hour, count);
        }
        let collected = collected.into_inner().unwrap();
        assert_eq!(collected.values().sum::<u64>(), THREADS * EACH);
        assert_eq!(word.take(), None);
    }

    #[test]
    fn each_hour_gets_its_own() {
        let word = Word::default();
        assert_eq!(word.note(Hour(7)), Noted::First);
        assert_eq!(word.note(Hour(7)), Noted::Counted);
        assert_eq!(word.note(Hour(8)), Noted::Instead(Hour(7), 2));
        assert_eq!(word.take(), Some((Hour(8), 1)));
        assert_eq!(word.take(), None);
        assert_eq!(word.note(Hour(8)), Noted::First);
    }

    #[test]
    fn outcomes_are_kept_apart() {
        let tally = Tally::default();
        let hour = Hour::of(UtcTime::parse("2026-11-25T13:59:59Z").expect("a time"));
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                tally.note(outcome, hour);
            }
        }
        let mut taken = Vec::new();
        tally.take(|of, outcome, count| {
            assert_eq!(of, hour);
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
