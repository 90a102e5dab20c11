//! Parsers for numbers, durations and URLs in settings.

use std::{ops::RangeInclusive, time::Duration};

use url::Url;

/// Returns a parser for a whole number in this range.
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

/// Returns a parser for a duration in whole seconds in this range.
pub(super) fn seconds(
    range: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    let parse = whole_number::<u64>(range);
    move |text| parse(text).map(Duration::from_secs)
}

/// Returns whether a text is a URL with one of these schemes and with a host. A port must not be 0.
pub(super) fn is_server_url(text: &str, schemes: &[&str]) -> bool {
    Url::parse(text).is_ok_and(|url| {
        schemes.contains(&url.scheme())
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.port() != Some(0)
    })
}
