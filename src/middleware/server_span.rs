//! Trace span of a request, if tracing is on. It is part of the client's trace if the client sends a valid
//! `traceparent` (W3C Trace Context).
//!
//! Names and attributes follow OpenTelemetry's semantic conventions for HTTP, except for values that may contain a
//! client's secret: no path, no query, no header.

use actix_web::{
    dev::ServiceRequest,
    http::{Method, StatusCode, header::HeaderMap},
};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanKind, Status, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::browser_policy::is_over_tls;
use crate::telemetry::traces;

/// Span of a request, whether or not the sampler has selected it.
pub(super) struct ServerSpan {
    /// Context in which all work for the request runs.
    pub context: Context,
}

/// Methods of RFC 9110 and RFC 5789. Clients may send any other.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

impl ServerSpan {
    /// Starts the span; `None` if tracing is off. `method` is the one that the client sent.
    pub(super) fn begin(request: &ServiceRequest, method: &Method) -> Option<Self> {
        if !traces::is_on() {
            return None;
        }
        let method = METHODS.into_iter().find(|name| *name == method.as_str());
        let route = request.match_pattern();
        let name = method.unwrap_or("HTTP");
        let name = match &route {
            Some(route) => format!("{name} {route}"),
            None => name.to_owned(),
        };
        let scheme = if is_over_tls(request) {
            "https"
        } else {
            "http"
        };
        let attributes = [
            KeyValue::new("http.request.method", method.unwrap_or("_OTHER")),
            KeyValue::new("url.scheme", scheme),
        ];
        let route = route.map(|route| KeyValue::new("http.route", route));
        let attributes = attributes.into_iter().chain(route);
        let caller = Headers(request.headers());
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &caller);
        let context = traces::begin(&parent, SpanKind::Server, name, attributes)?;
        Some(Self { context })
    }

    /// Returns the trace id, for the access log.
    pub(super) fn trace_id(&self) -> String {
        self.context.span().span_context().trace_id().to_string()
    }

    pub(super) fn end(&self, status: StatusCode) {
        let span = self.context.span();
        let code = i64::from(status.as_u16());
        span.set_attribute(KeyValue::new("http.response.status_code", code));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// Headers in which a client sends its trace context.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key);
        let value = values.next()?.to_str().ok()?;
        // Two values are ambiguous: ignore both.
        let is_valid = values.next().is_none() && (key != "traceparent" || is_traceparent(value));
        is_valid.then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Returns whether a value has the form of a `traceparent` (W3C Trace Context section 3.2). The propagator checks that
/// no id is zero.
fn is_traceparent(value: &str) -> bool {
    let bytes = value.as_bytes();
    let is_in_form = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    let Some((fields, rest)) = bytes.split_at_checked(55) else {
        return false;
    };
    let is_complete = if value.starts_with("00") {
        rest.is_empty()
    } else {
        // A later version may have more fields.
        rest.first().is_none_or(|byte| *byte == b'-')
    };
    is_complete && fields.iter().enumerate().all(is_in_form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_traceparent_is_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (value, is_valid) in [
            (good, true),
            (&format!("{good}-more").replacen("00", "01", 1), true),
            (&format!("{good}-more"), false),
            (&format!("{good}0").replacen("00", "01", 1), false),
            (&good.to_uppercase(), false),
            (&good[..54], false),
            (&good.replacen('-', "_", 1), false),
            (&good.replace("0af7", "+af7"), false),
            ("", false),
            (
                "é0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                false,
            ),
        ] {
            assert_eq!(is_traceparent(value), is_valid, "{value}");
        }
    }
}
