//! Answers that the connection gives itself, where the app never sees a request.

use std::{fmt::Write as _, sync::Arc, time::SystemTime};

use actix_web::{ResponseError as _, http::header::HttpDate};
use uuid::Uuid;

use crate::{
    core::{
        connections::{Connections, Full, Unreadable},
        error::Error,
    },
    extract::REQUEST_ID,
    middleware::BrowserPolicy,
};

/// Gives and counts them. Clones share the counts.
#[derive(Clone)]
pub(super) struct Refusals {
    pub connections: Arc<Connections>,
    pub over_tls: bool,
}

impl Refusals {
    /// To a request that cannot be read.
    pub(super) fn of_request(&self, why: Unreadable) -> Vec<u8> {
        self.connections.answered(why);
        self.answer(&match why {
            Unreadable::Malformed => Error::InvalidRequest(
                "The request is not HTTP/1.1 as RFC 9112 has it, with one Host header.".into(),
            ),
            Unreadable::Slow => Error::HeadTooSlow,
            Unreadable::Large => Error::HeadTooLarge,
        })
    }

    /// To a connection for which there is no place.
    pub(super) fn of_connection(&self, why: Full) -> Vec<u8> {
        let why = match why {
            Full::Service => "too many connections",
            Full::Client => "too many connections from one address",
        };
        self.answer(&Error::Unavailable(why.into()))
    }

    /// A whole answer, after which the connection is closed.
    fn answer(&self, error: &Error) -> Vec<u8> {
        let request_id = Uuid::new_v4().to_string();
        let response = error.error_response();
        let status = response.status();
        tracing::debug!(
            status = status.as_u16(),
            request_id,
            cause = error.cause(),
            "answered by the connection"
        );
        let mut headers = response.headers().clone();
        BrowserPolicy::tell_of_an_answer(&mut headers, self.over_tls);
        let body = serde_json::to_string(&error.problem(Some(&request_id))).unwrap_or_default();
        let (length, date) = (body.len(), HttpDate::from(SystemTime::now()));
        let mut answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\
             {REQUEST_ID}: {request_id}\r\ndate: {date}\r\n"
        );
        for (name, value) in &headers {
            // Ours are all text; and to a string it can be written.
            let _ = write!(answer, "{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        answer.push_str("\r\n");
        answer.push_str(&body);
        answer.into_bytes()
    }
}

/// Where in what the HTTP library writes its own answer begins to a request that it cannot read. It is the
/// last thing that it writes, and has no body; the app's answers with such a status always have one.
pub(super) fn bare_answer(written: &[u8]) -> Option<(usize, Unreadable)> {
    const LONGEST: usize = 256;
    const VERSION: &[u8] = b"HTTP/1.1";
    const BARE: [(&[u8], Unreadable); 2] = [
        (
            b" 400 Bad Request\r\ncontent-length: 0\r\n",
            Unreadable::Malformed,
        ),
        (
            b" 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n",
            Unreadable::Large,
        ),
    ];
    // Answers with a body end otherwise: no more is looked at of them.
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = written.len().saturating_sub(LONGEST);
    BARE.into_iter().find_map(|(start, why)| {
        let mut places = written[from..].windows(start.len());
        let at = from + places.rposition(|place| place == start)?;
        let at = at.checked_sub(VERSION.len())?;
        written[at..].starts_with(b"HTTP/1.").then_some((at, why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_answer_is_found_behind_others_and_nothing_else_is_taken_for_one() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let date = "date: Thu, 26 Nov 2026 00:00:00 GMT\r\n\r\n";
        for (status, why) in [
            ("400 Bad Request", Unreadable::Malformed),
            ("431 Request Header Fields Too Large", Unreadable::Large),
        ] {
            for version in ["1.0", "1.1"] {
                let bare = format!("HTTP/{version} {status}\r\ncontent-length: 0\r\n{date}");
                assert_eq!(bare_answer(bare.as_bytes()), Some((0, why)));
                let behind = format!("{}{bare}", good.repeat(50));
                let at = behind.len() - bare.len();
                assert_eq!(bare_answer(behind.as_bytes()), Some((at, why)));
            }
        }
        let told = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n{date}{{}}");
        let empty = format!("HTTP/1.1 304 Not Modified\r\n{date}");
        for other in [good, &told, &empty, "", "\r\n\r\n"] {
            assert_eq!(bare_answer(other.as_bytes()), None, "{other}");
        }
    }
}
