//! Responses that the connection itself sends, when the app never receives a request.

use std::{fmt::Write as _, sync::Arc, time::SystemTime};

use actix_web::{ResponseError as _, http::header::HttpDate};
use uuid::Uuid;

use crate::{
    connection::counters::{ConnectionCounters, ConnectionRejection, UnreadableRequest},
    domain::error::Error,
    extract::REQUEST_ID,
    middleware::BrowserPolicy,
};

/// Creates and counts these responses. Clones share the counters.
#[derive(Clone)]
pub(in crate::server) struct ConnectionResponses {
    pub counters: Arc<ConnectionCounters>,
    pub over_tls: bool,
}

impl ConnectionResponses {
    /// Returns the response to an unreadable request, and counts it.
    pub(in crate::server) fn to_unreadable_request(&self, reason: UnreadableRequest) -> Vec<u8> {
        self.counters.answered(reason);
        self.render(&match reason {
            UnreadableRequest::Malformed => Error::InvalidRequest(
                "The request must be valid HTTP/1.1 (RFC 9112) with exactly one Host header."
                    .into(),
            ),
            UnreadableRequest::Slow => Error::HeadTooSlow,
            UnreadableRequest::Large => Error::HeadTooLarge,
        })
    }

    /// Returns the response on a connection beyond the limits of [`Admission`](crate::server::admission::Admission).
    pub(in crate::server) fn to_rejected_connection(&self, reason: ConnectionRejection) -> Vec<u8> {
        let detail = match reason {
            ConnectionRejection::Service => "too many connections",
            ConnectionRejection::Client => "too many connections from one address",
        };
        self.render(&Error::Unavailable(detail.into()))
    }

    /// Renders a complete response with `Connection: close`.
    fn render(&self, error: &Error) -> Vec<u8> {
        let request_id = Uuid::new_v4().to_string();
        let response = error.error_response();
        let status = response.status();
        tracing::debug!(
            status = status.as_u16(),
            request_id,
            cause = error.cause(),
            "the connection responded without the app"
        );
        let mut headers = response.headers().clone();
        BrowserPolicy::tell_of_an_answer(&mut headers, self.over_tls);
        let body = serde_json::to_string(&error.problem(Some(&request_id))).unwrap_or_default();
        let (length, date) = (body.len(), HttpDate::from(SystemTime::now()));
        let mut rendered = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\
             {REQUEST_ID}: {request_id}\r\ndate: {date}\r\n"
        );
        for (name, value) in &headers {
            // All header values of the service are text, and writing to a `String` does not fail.
            let _ = write!(
                rendered,
                "{name}: {}\r\n",
                value.to_str().unwrap_or_default()
            );
        }
        rendered.push_str("\r\n");
        rendered.push_str(&body);
        rendered.into_bytes()
    }
}

/// Returns the reason for which the HTTP library rejects a request, from the response that the library writes by
/// itself.
pub(in crate::server) fn unreadable_reason(written: &[u8]) -> UnreadableRequest {
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
    fn response_of_the_library_maps_to_a_reason_by_its_status() {
        for version in ["1.0", "1.1"] {
            let bare = |status| format!("HTTP/{version} {status}\r\ncontent-length: 0\r\n\r\n");
            let large = bare("431 Request Header Fields Too Large");
            assert_eq!(
                unreadable_reason(large.as_bytes()),
                UnreadableRequest::Large
            );
            let malformed = bare("400 Bad Request");
            assert_eq!(
                unreadable_reason(malformed.as_bytes()),
                UnreadableRequest::Malformed
            );
        }
    }
}
