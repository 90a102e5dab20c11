//! Proptest strategies for limits, amounts and pauses, from the smallest to the largest.

use latchkey::domain::limit::RateLimit;
use proptest::prelude::*;

pub const MAX_LIMIT: u64 = 1 << 53;

pub fn limit() -> impl Strategy<Value = RateLimit> {
    let limit = prop_oneof![
        1..10_u64,
        1..10_000_u64,
        1..=MAX_LIMIT,
        MAX_LIMIT - 1000..=MAX_LIMIT
    ];
    let window = prop_oneof![1..3_u32, 1..=86_400_u32];
    (limit, window).prop_map(|(limit, window)| RateLimit::new(limit, window).unwrap())
}

/// Number of tokens, absolute or in thousandths of a limit.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    Tokens(u64),
    Part(u64),
}

impl Amount {
    pub fn of(self, limit: RateLimit) -> u64 {
        match self {
            Self::Tokens(tokens) => tokens,
            Self::Part(part) => {
                let tokens = u128::from(limit.limit()) * u128::from(part) / 1000;
                u64::try_from(tokens).unwrap()
            }
        }
    }
}

/// Generates amounts, some of them larger than the limit.
pub fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (0..4_u64).prop_map(Amount::Tokens),
        (0..1010_u64).prop_map(Amount::Part)
    ]
}

/// Pause in milliseconds, or in thousandths of a window.
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

/// Generates pauses, some of them longer than a window.
pub fn pause() -> impl Strategy<Value = Pause> {
    prop_oneof![
        2 => Just(Pause::Millis(0)),
        4 => (0..50_i64).prop_map(Pause::Millis),
        4 => (0..100_i64).prop_map(Pause::Part),
        1 => (0..1100_i64).prop_map(Pause::Part),
    ]
}
