//! The span of a request, if anything is traced: as a part of the caller's trace, if it sends a sane
//! `traceparent` (W3C Trace Context).
//!
//! Named and described as OpenTelemetry's semantic conventions for HTTP have it, but for what a client
//! may put a secret into: no path, no query, no header.

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

/// A request that is traced, or would be if the sampler had said so.
pub(super) struct ServerSpan {
    /// Whatever is done for the request is done within it.
    pub context: Context,
}

/// The methods of RFC 9110 and RFC 5789. A client may send any.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

impl ServerSpan {
    /// `None` if nothing is traced. `method` is as the client sent it.
    pub(super) fn begin(request: &ServiceRequest, method: &Method) -> Option<Self> {
        if !traces::is_on() {
            return None;
        }
        let method = METHODS.into_iter().find(|known| *known == method.as_str());
        let route = request.match_pattern();
        let name = method.unwrap_or("HTTP");
        let name = match &route {
            Some(route) => format!("{name} {route}"),
            None => name.to_owned(),
        };
        let scheme = match is_over_tls(request) {
            true => "https",
            false => "http",
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

    /// For the log.
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

/// The headers by which a caller says of what trace its request is.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key);
        let value = values.next()?.to_str().ok()?;
        // Of two, which one counts would be a guess.
        let is_sane = values.next().is_none() && (key != "traceparent" || is_traceparent(value));
        is_sane.then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Whether it has the form of a `traceparent` (W3C Trace Context section 3.2); that no id in it is zero is
/// checked where it is taken over.
fn is_traceparent(value: &str) -> bool {
    let bytes = value.as_bytes();
    let is_in_place = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    let Some((known, rest)) = bytes.split_at_checked(55) else {
        return false;
    };
    let is_whole = match value.starts_with("00") {
        true => rest.is_empty(),
        // A later version may have more to say.
        false => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    is_whole && known.iter().enumerate().all(is_in_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_traceparent_is_taken_over() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (value, is_sane) in [
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
            assert_eq!(is_traceparent(value), is_sane, "{value}");
        }
    }
}
