//! Rules for browsers: security headers of responses, and CORS (Fetch standard) for pages of other origins.

use actix_web::{
    HttpResponse,
    dev::ServiceRequest,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::{config::AllowedOrigins, connection::counters::OverTls};

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// `Content-Security-Policy` of API responses. They are not pages: one that is loaded as a page must not do anything.
const API_CSP: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// `Content-Security-Policy` of Swagger UI. Its scripts and styles are files of this service, except two rules that
/// colour its logo, which are allowed by their digest. The icons in its styles are `data:` URLs.
const DOCS_CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; \
     style-src 'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const DENY: HeaderValue = HeaderValue::from_static("DENY");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
const NO_DEVICES: HeaderValue =
    HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()");
/// `Strict-Transport-Security` for one year. Without subdomains, for which this service cannot decide.
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Methods and headers that the routes accept, besides those that a page may always send.
const ALLOWED_METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, traceparent, tracestate, x-api-key, x-request-id",
);
/// Response headers that a page may read, besides those that it may always read.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "link, location, ratelimit, ratelimit-policy, retry-after, www-authenticate, x-request-id",
);
/// Time for which a browser may cache a preflight response, in seconds. Chromium's maximum is two hours.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "origin, access-control-request-method, access-control-request-headers",
);

/// Browser rules of the service, in the app data.
pub struct BrowserPolicy {
    allowed_origins: AllowedOrigins,
}

/// Browser rules for the response to one request.
pub(super) struct ResponsePolicy {
    is_docs: bool,
    over_tls: bool,
    /// True if the response depends on the origin of the calling page.
    varies: bool,
    /// Origin whose pages may read the response.
    allowed_origin: Option<HeaderValue>,
}

impl BrowserPolicy {
    pub fn new(allowed_origins: AllowedOrigins) -> Self {
        Self { allowed_origins }
    }

    /// Adds the headers of every response that is not a page, whichever part of the service sends it.
    pub(crate) fn tell_of_an_answer(headers: &mut HeaderMap, over_tls: bool) {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(header::X_FRAME_OPTIONS, DENY);
        headers.insert(header::REFERRER_POLICY, NO_REFERRER);
        headers.insert(RESOURCE_POLICY, SAME_ORIGIN);
        headers.insert(header::CONTENT_SECURITY_POLICY, API_CSP);
        if over_tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, TLS_ONLY);
        }
    }

    /// Returns the rules for the response to a request.
    pub(super) fn response_policy(&self, request: &ServiceRequest) -> ResponsePolicy {
        let varies = !self.allowed_origins.is_empty() && !is_for_gateways(request);
        let origin = request
            .headers()
            .get(header::ORIGIN)
            .filter(|origin| varies && self.allowed_origins.contains(origin.as_bytes()));
        ResponsePolicy {
            is_docs: request.path().starts_with("/docs"),
            over_tls: is_over_tls(request),
            varies,
            allowed_origin: origin.cloned(),
        }
    }
}

/// Returns whether the client has a TLS connection to this process.
pub(super) fn is_over_tls(request: &ServiceRequest) -> bool {
    request.conn_data::<OverTls>().is_some() || request.app_config().secure()
}

/// Returns whether the route is for gateways. Pages do not call it, and it must not respond to a preflight: a gateway
/// would take the 204 as permission to forward the request, which may be the client's own preflight.
fn is_for_gateways(request: &ServiceRequest) -> bool {
    request.path().starts_with("/forward-auth")
}

impl ResponsePolicy {
    /// Returns the response to a preflight request from an allowed origin. A preflight carries no credential, so it
    /// reaches no route. For all other requests returns `None`: they go to the router.
    pub(super) fn preflight(&self, request: &ServiceRequest) -> Option<HttpResponse> {
        let is_preflight = request.method() == Method::OPTIONS
            && self.allowed_origin.is_some()
            && request
                .headers()
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        is_preflight.then(|| {
            HttpResponse::NoContent()
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE))
                .insert_header((header::VARY, VARY_PREFLIGHT))
                .finish()
        })
    }

    /// Adds the headers of the policy to a response.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        headers.reserve(8);
        BrowserPolicy::tell_of_an_answer(headers, self.over_tls);
        if self.is_docs {
            headers.insert(header::CONTENT_SECURITY_POLICY, DOCS_CSP);
            headers.insert(OPENER_POLICY, SAME_ORIGIN);
            headers.insert(PERMISSIONS_POLICY, NO_DEVICES);
        }
        if self.varies && headers.get(header::VARY) != Some(&VARY_PREFLIGHT) {
            headers.append(header::VARY, VARY_ORIGIN);
        }
        if let Some(origin) = self.allowed_origin {
            // Never with Access-Control-Allow-Credentials: the service has no cookies, and pages send keys and
            // tokens themselves.
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
    }
}
