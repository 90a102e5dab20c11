//! The errors that follow from the form of an operation.

use utoipa::{
    ToSchema as _,
    openapi::{
        Components, Content, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterIn},
    },
};

use super::text_header;
use crate::domain::error::Problem;

/// An error that several operations have.
struct SharedError {
    name: &'static str,
    status: &'static str,
    description: &'static str,
    /// The header that comes with it, and what it says.
    header: Option<(&'static str, &'static str)>,
}

impl SharedError {
    const fn new(name: &'static str, status: &'static str, description: &'static str) -> Self {
        let header = match status.as_bytes() {
            b"401" => Some((
                "WWW-Authenticate",
                "How to authenticate (RFC 9110 section 11.6.1)",
            )),
            b"429" | b"503" => Some(("Retry-After", "Whole seconds to wait")),
            _ => None,
        };
        Self {
            name,
            status,
            description,
            header,
        }
    }

    fn response(&self) -> Response {
        let problem = Content::new(Some(Ref::from_schema_name(Problem::name())));
        let mut response = ResponseBuilder::new()
            .description(self.description)
            .content("application/problem+json", problem);
        if let Some((name, description)) = self.header {
            response = response.header(name, text_header(description));
        }
        response.build()
    }
}

const SHARED: [SharedError; 17] = [
    SharedError::new(
        "BadRequest",
        "400",
        "`invalid_json`, `invalid_cursor`, `ambiguous_credentials`, `invalid_request`",
    ),
    SharedError::new(
        "InvalidToken",
        "401",
        "`missing_credentials`, `invalid_token`: log in again",
    ),
    SharedError::new(
        "InvalidApiKey",
        "401",
        "`missing_credentials`, `invalid_api_key`: unknown, malformed, revoked, expired and disabled keys answer the same",
    ),
    SharedError::new(
        "InvalidCredentials",
        "401",
        "`invalid_credentials`: the address or the password is wrong",
    ),
    SharedError::new(
        "InvalidTokenOrPassword",
        "401",
        "`missing_credentials`, `invalid_token`; `invalid_credentials`: the current password is wrong",
    ),
    SharedError::new("PermissionDenied", "403", "`permission_denied`"),
    SharedError::new(
        "KeyNotAllowed",
        "403",
        "`ip_not_allowed`: not from this address; `insufficient_scope`: `missing_scopes` says what the key lacks",
    ),
    SharedError::new(
        "NotFound",
        "404",
        "`not_found`: not there, or somebody else's",
    ),
    SharedError::new(
        "EmailTaken",
        "409",
        "`email_taken`: the address has an account",
    ),
    SharedError::new(
        "Conflict",
        "409",
        "`conflict`: what it is now stands against it; `detail` says what",
    ),
    SharedError::new(
        "RequestTimeout",
        "408",
        "`request_timeout`: the body did not come in time",
    ),
    SharedError::new(
        "PayloadTooLarge",
        "413",
        "`payload_too_large`: more than 64 KiB, unless the service is set otherwise",
    ),
    SharedError::new("UnsupportedMediaType", "415", "`unsupported_media_type`"),
    SharedError::new(
        "ValidationFailed",
        "422",
        "`validation_failed`: `errors` says what is wrong, and where",
    ),
    SharedError::new("TooManyAttempts", "429", "`too_many_attempts`: wait"),
    SharedError::new(
        "LimitReached",
        "429",
        "`rate_limited`: the key was used too often lately; `quota_exceeded`: it was used as often as it may in this period",
    ),
    SharedError::new(
        "Unavailable",
        "503",
        "`unavailable`: the database is out of reach, or the server saturated",
    ),
];

/// Declares them, for operations to refer to.
pub(super) fn declare(components: &mut Components) {
    for error in &SHARED {
        let response = error.response().into();
        components.responses.insert(error.name.to_owned(), response);
    }
}

/// What can go wrong with any operation of this form.
pub(super) fn add(path: &str, operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let has = |place| {
        let inline = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.parameter_in == place);
        parameters.iter().any(inline)
    };
    let security = serde_json::to_string(&operation.security).unwrap_or_default();
    let needs = |scheme: &str| security.contains(&format!("\"{scheme}\""));
    let (in_path, in_query) = (has(ParameterIn::Path), has(ParameterIn::Query));
    let (user, key) = (needs("user_token"), needs("api_key"));
    let body = operation.request_body.is_some();

    let mut add = |applies: bool, name: &str| {
        let shared = SHARED.iter().find(|shared| shared.name == name);
        if let Some(shared) = shared.filter(|_| applies) {
            let reference = RefOr::Ref(Ref::from_response_name(name));
            let responses = &mut operation.responses.responses;
            responses
                .entry(shared.status.to_owned())
                .or_insert(reference);
        }
    };
    add(user || key || body || in_query, "BadRequest");
    add(user, "InvalidToken");
    add(key, "InvalidApiKey");
    add(key, "KeyNotAllowed");
    add(key, "LimitReached");
    add(in_path, "NotFound");
    add(body, "RequestTimeout");
    add(body, "PayloadTooLarge");
    add(body, "UnsupportedMediaType");
    add(body || in_query, "ValidationFailed");
    add(path != "/health/live", "Unavailable");
}
