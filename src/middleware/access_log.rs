//! Access log: one line per request.
//!
//! A line costs more than the verification of a key. So successful requests to routes that can be called thousands of
//! times per second are logged at `debug` only: routes behind an API key, and `/health`. The log contains the pattern
//! of the route, but neither path nor query: some client will put a secret into a URL.

use std::time::Duration;

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::{Method, StatusCode},
};

use crate::verification::engine::{Rejection, VerifiedKey};

/// Fields of a line that the request itself does not contain.
pub(super) struct Line<'a> {
    pub method: &'a Method,
    pub status: StatusCode,
    pub took: Duration,
    pub request_id: &'a str,
    /// Id of the trace, if tracing is on.
    pub trace_id: Option<&'a str>,
    /// Cause of a 5xx.
    pub cause: Option<&'a str>,
}

impl Line<'_> {
    /// Writes the line of a request that has a response.
    pub(super) fn write(&self, request: &HttpRequest) {
        let quiet = self.status.is_success()
            && (request.extensions().contains::<VerifiedKey>()
                || request.path().starts_with("/health"));
        if quiet && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let route = request.match_pattern();
        let rejection = request.extensions().get::<Rejection>().map(|r| r.code());
        self.emit(quiet, route.as_deref(), rejection);
    }

    /// Writes the line of a request that no longer exists because its handler panicked.
    pub(super) fn write_without_request(&self) {
        self.emit(false, None, None);
    }

    fn emit(&self, quiet: bool, route: Option<&str>, rejection: Option<&str>) {
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    method = self.method.as_str(),
                    route = route.unwrap_or("-"),
                    status = self.status.as_u16(),
                    ms = self.took.as_micros() as f64 / 1000.0,
                    request_id = self.request_id,
                    trace_id = self.trace_id,
                    refusal = rejection,
                    cause = self.cause,
                    "request"
                )
            };
        }
        if self.status.is_server_error() {
            line!(tracing::Level::ERROR);
        } else if quiet {
            line!(tracing::Level::DEBUG);
        } else {
            line!(tracing::Level::INFO);
        }
    }
}
