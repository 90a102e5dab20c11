//! Answers that the connection gives itself, where the app never sees a request.

use std::{fmt::Write as _, sync::Arc, time::SystemTime};

use actix_web::{ResponseError as _, http::header::HttpDate};
use uuid::Uuid;

use crate::{
    connection::counters::{ConnectionCounters, ConnectionRejection, UnreadableRequest},
    domain::error::Error,
    extract::REQUEST_ID,
    middleware::BrowserPolicy,
};

/// Gives and counts them. Clones share the counts.
#[derive(Clone)]
pub(in crate::server) struct Rejections {
    pub connections: Arc<ConnectionCounters>,
    pub over_tls: bool,
}

impl Rejections {
    /// To a request that cannot be read.
    pub(in crate::server) fn of_request(&self, why: UnreadableRequest) -> Vec<u8> {
        self.connections.answered(why);
        self.answer(&match why {
            UnreadableRequest::Malformed => Error::InvalidRequest(
                "The request is not HTTP/1.1 as RFC 9112 has it, with one Host header.".into(),
            ),
            UnreadableRequest::Slow => Error::HeadTooSlow,
            UnreadableRequest::Large => Error::HeadTooLarge,
        })
    }

    /// To a connection for which there is no place.
    pub(in crate::server) fn of_connection(&self, why: ConnectionRejection) -> Vec<u8> {
        let why = match why {
            ConnectionRejection::Service => "too many connections",
            ConnectionRejection::Client => "too many connections from one address",
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

/// Returns why the HTTP library rejects a request, from the response that it gives by itself.
pub(in crate::server) fn why_unreadable(written: &[u8]) -> UnreadableRequest {
    const STATUS: std::ops::Range<usize> = 9..12;
    match written.get(STATUS) {
        Some(b"431") => UnreadableRequest::Large,
        _ => UnreadableRequest::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_read_from_the_status() {
        for version in ["1.0", "1.1"] {
            let bare = |status| format!("HTTP/{version} {status}\r\ncontent-length: 0\r\n\r\n");
            let large = bare("431 Request Header Fields Too Large");
            assert_eq!(why_unreadable(large.as_bytes()), UnreadableRequest::Large);
            let malformed = bare("400 Bad Request");
            assert_eq!(
                why_unreadable(malformed.as_bytes()),
                UnreadableRequest::Malformed
            );
        }
    }
}
