//! Limits, amounts and pauses, from the smallest to the largest.

use latchkey::domain::limit::RateLimit;
use proptest::prelude::*;

pub const MOST: u64 = 1 << 53;

pub fn limit() -> impl Strategy<Value = RateLimit> {
    let limit = prop_oneof![1..10_u64, 1..10_000_u64, 1..=MOST, MOST - 1000..=MOST];
    let window = prop_oneof![1..3_u32, 1..=86_400_u32];
    (limit, window).prop_map(|(limit, window)| RateLimit::new(limit, window).unwrap())
}

/// Some units, or thousandths of a limit.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    Units(u64),
    Part(u64),
}

impl Amount {
    pub fn of(self, limit: RateLimit) -> u64 {
        match self {
            Self::Units(units) => units,
            Self::Part(part) => {
                let units = u128::from(limit.limit()) * u128::from(part) / 1000;
                u64::try_from(units).unwrap()
            }
        }
    }
}

/// At times more than there may be.
pub fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (0..4_u64).prop_map(Amount::Units),
        (0..1010_u64).prop_map(Amount::Part)
    ]
}

/// Some milliseconds, or thousandths of a window.
#[derive(Debug, Clone, Copy)]
pub enum Pause {
    Millis(i64),
    Part(i64),
}

impl Pause {
    pub fn of(self, limit: RateLimit) -> i64 {
        match self {
            Self::Millis(millis) => millis,
            Self::Part(part) => i64::from(limit.window_seconds()) * part,
        }
    }
}

/// At times longer than a window.
pub fn pause() -> impl Strategy<Value = Pause> {
    prop_oneof![
        2 => Just(Pause::Millis(0)),
        4 => (0..50_i64).prop_map(Pause::Millis),
        4 => (0..100_i64).prop_map(Pause::Part),
        1 => (0..1100_i64).prop_map(Pause::Part),
    ]
}
