//! How it stands with a key's limits, in the header fields of draft-ietf-httpapi-ratelimit-headers: lists of
//! strings with parameters, as structured fields (RFC 9651) write them.

use std::fmt::Write as _;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::verification::limits::LimitStatus;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The largest integer that a structured field holds. What is more is at least so much.
const LARGEST: u64 = 999_999_999_999_999;

/// Adds what there is to say.
pub(crate) fn tell_limits(headers: &mut HeaderMap, status: &LimitStatus) {
    let (mut policy, mut limit) = (Text::default(), Text::default());
    if let Some(rate) = &status.rate {
        let window = rate.limit.window_seconds().into();
        policy.item(
            "key",
            [("q", Some(rate.limit.limit())), ("w", Some(window))],
        );
        limit.item(
            "key",
            [("r", Some(rate.remaining)), ("t", Some(rate.reset_seconds))],
        );
    }
    if let Some(quota) = &status.quota {
        policy.item(
            "quota",
            [
                ("q", Some(quota.quota.limit())),
                ("w", quota.window_seconds),
            ],
        );
        limit.item(
            "quota",
            [("r", Some(quota.remaining)), ("t", quota.reset_seconds)],
        );
    }
    for (name, text) in [(POLICY, policy), (LIMIT, limit)] {
        if let Some(value) = text.value() {
            headers.insert(name, value);
        }
    }
}

/// A list of two items at the most, without a string on the heap.
struct Text {
    bytes: [u8; 96],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; 96],
            length: 0,
        }
    }
}

impl Text {
    /// A name with those parameters that it has.
    fn item(&mut self, name: &str, parameters: [(&str, Option<u64>); 2]) {
        let separator = if self.length == 0 { "" } else { ", " };
        // Two items with the largest numbers fit.
        let _ = write!(self, "{separator}\"{name}\"");
        for (name, number) in parameters {
            if let Some(number) = number {
                let _ = write!(self, ";{name}={}", number.min(LARGEST));
            }
        }
    }

    fn value(&self) -> Option<HeaderValue> {
        let bytes = &self.bytes[..self.length];
        HeaderValue::from_bytes(bytes)
            .ok()
            .filter(|_| self.length > 0)
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let place = self
            .bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
