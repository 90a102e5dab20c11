//! How settings are read, and what is said of a bad one.

use std::{ops::RangeInclusive, time::Duration};

/// A parser for a number in this range.
pub(super) fn whole_number<T: TryFrom<i64>>(
    range: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                let (start, end) = (range.start(), range.end());
                format!("must be a whole number from {start} to {end}")
            })
    }
}

/// A parser for a duration of so many seconds.
pub(super) fn seconds(
    range: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    let parse = whole_number::<u64>(range);
    move |text| parse(text).map(Duration::from_secs)
}
