//! Status of a key's limits in the header fields of draft-ietf-httpapi-ratelimit-headers: lists of strings with
//! parameters, in the format of structured fields (RFC 9651).

use std::fmt::Write as _;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::verification::limits::LimitStatus;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Largest integer in a structured field. Larger numbers are replaced with it.
const LARGEST: u64 = 999_999_999_999_999;

/// Adds `RateLimit-Policy` and `RateLimit`, with an item for each limit that the key has.
pub(crate) fn insert_limit_headers(headers: &mut HeaderMap, status: &LimitStatus) {
    let (mut policy, mut limit) = (HeaderText::default(), HeaderText::default());
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

/// List of at most two items, in a buffer on the stack.
struct HeaderText {
    bytes: [u8; 96],
    length: usize,
}

impl Default for HeaderText {
    fn default() -> Self {
        Self {
            bytes: [0; 96],
            length: 0,
        }
    }
}

impl HeaderText {
    /// Appends an item with the parameters that have a value.
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

impl std::fmt::Write for HeaderText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let target = self
            .bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?;
        target.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
