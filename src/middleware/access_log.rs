//! One line per request.
//!
//! It costs more than a verification does. So what is asked for thousands of times a second and went
//! well is logged at `debug` only: routes behind a key, and `/health`. Neither path nor query is
//! logged, but the route's pattern: somebody will put a secret into a URL.

use std::time::Duration;

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::{Method, StatusCode},
};

use crate::verification::engine::{Rejection, VerifiedKey};

/// What the line says besides what the request itself knows.
pub(super) struct Line<'a> {
    pub method: &'a Method,
    pub status: StatusCode,
    pub took: Duration,
    pub request_id: &'a str,
    /// If anything is traced.
    pub trace_id: Option<&'a str>,
    /// Why it is a 5xx.
    pub cause: Option<&'a str>,
}

impl Line<'_> {
    /// Writes the line of a request that was answered.
    pub(super) fn write(&self, request: &HttpRequest) {
        let quiet = self.status.is_success()
            && (request.extensions().contains::<VerifiedKey>()
                || request.path().starts_with("/health"));
        if quiet && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let route = request.match_pattern();
        let refusal = request.extensions().get::<Rejection>().map(|r| r.code());
        self.emit(quiet, route.as_deref(), refusal);
    }

    /// Writes the line of a request of which nothing is left, since its handler panicked.
    pub(super) fn write_without_request(&self) {
        self.emit(false, None, None);
    }

    fn emit(&self, quiet: bool, route: Option<&str>, refusal: Option<&str>) {
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
                    refusal,
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
