//! What browsers may do with the answers: headers against misuse, and which other sites' pages may call
//! (CORS, as the Fetch standard has it).

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

/// An answer of the API is no page: whatever is made to load it as one may do nothing.
const OF_AN_ANSWER: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Swagger UI's scripts and styles are files of ours, but for two rules that colour its logo, which are known
/// by their digest; the icons in its styles are `data:`.
const OF_THE_DOCS: HeaderValue = HeaderValue::from_static(
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
/// For a year, this host alone: its neighbours are not ours to speak for.
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What the routes take, beyond what a page may send anyway.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, traceparent, tracestate, x-api-key, x-request-id",
);
/// What a page may read, beyond what it may read anyway.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "link, location, ratelimit, ratelimit-policy, retry-after, www-authenticate, x-request-id",
);
/// How long a browser remembers a preflight, in seconds. Chromium's most is two hours.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");
const ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const PREFLIGHT_VARIES: HeaderValue = HeaderValue::from_static(
    "origin, access-control-request-method, access-control-request-headers",
);

/// What holds for every answer of this service, once in the app's data.
pub struct BrowserPolicy {
    allowed_origins: AllowedOrigins,
}

/// What holds for the answer to one request.
pub(super) struct Terms {
    is_docs: bool,
    over_tls: bool,
    /// Whether the answer depends on who calls.
    varies: bool,
    /// The origin whose page may read the answer.
    reader: Option<HeaderValue>,
}

impl BrowserPolicy {
    pub fn new(allowed_origins: AllowedOrigins) -> Self {
        Self { allowed_origins }
    }

    /// What holds for each answer that is no page, whoever gives it.
    pub(crate) fn tell_of_an_answer(headers: &mut HeaderMap, over_tls: bool) {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(header::X_FRAME_OPTIONS, DENY);
        headers.insert(header::REFERRER_POLICY, NO_REFERRER);
        headers.insert(RESOURCE_POLICY, SAME_ORIGIN);
        headers.insert(header::CONTENT_SECURITY_POLICY, OF_AN_ANSWER);
        if over_tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, TLS_ONLY);
        }
    }

    pub(super) fn terms(&self, request: &ServiceRequest) -> Terms {
        let varies = !self.allowed_origins.is_empty() && !is_for_gateways(request);
        let origin = request
            .headers()
            .get(header::ORIGIN)
            .filter(|origin| varies && self.allowed_origins.contains(origin.as_bytes()));
        Terms {
            is_docs: request.path().starts_with("/docs"),
            over_tls: is_over_tls(request),
            varies,
            reader: origin.cloned(),
        }
    }
}

/// Whether the client speaks TLS with this very process.
pub(super) fn is_over_tls(request: &ServiceRequest) -> bool {
    request.conn_data::<OverTls>().is_some() || request.app_config().secure()
}

/// No page has anything to ask there. And a gateway takes a 204 for leave to pass the request on: it may
/// be the client's own preflight that it asks about.
fn is_for_gateways(request: &ServiceRequest) -> bool {
    request.path().starts_with("/forward-auth")
}

impl Terms {
    /// The answer to a browser that asks, before its page's request, whether it may send it. It never
    /// carries a credential, and so goes to no route. Others are the router's to answer.
    pub(super) fn preflight(&self, request: &ServiceRequest) -> Option<HttpResponse> {
        let is_preflight = request.method() == Method::OPTIONS
            && self.reader.is_some()
            && request
                .headers()
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        is_preflight.then(|| {
            HttpResponse::NoContent()
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, REMEMBERED))
                .insert_header((header::VARY, PREFLIGHT_VARIES))
                .finish()
        })
    }

    /// Adds all that holds to an answer.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        headers.reserve(8);
        BrowserPolicy::tell_of_an_answer(headers, self.over_tls);
        if self.is_docs {
            headers.insert(header::CONTENT_SECURITY_POLICY, OF_THE_DOCS);
            headers.insert(OPENER_POLICY, SAME_ORIGIN);
            headers.insert(PERMISSIONS_POLICY, NO_DEVICES);
        }
        if self.varies && headers.get(header::VARY) != Some(&PREFLIGHT_VARIES) {
            headers.append(header::VARY, ORIGIN);
        }
        if let Some(origin) = self.reader {
            // Never with Access-Control-Allow-Credentials: there are no cookies here, and keys and
            // tokens are the page's own to send.
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}
