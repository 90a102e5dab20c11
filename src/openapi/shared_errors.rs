//! Error responses that follow from the form of an operation.

use utoipa::{
    ToSchema as _,
    openapi::{
        Components, Content, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterIn},
    },
};

use super::text_header;
use crate::domain::error::Problem;

/// Error response that several operations have.
struct SharedError {
    name: &'static str,
    status: &'static str,
    description: &'static str,
    /// Name and description of the header that the response has.
    header: Option<(&'static str, &'static str)>,
}

impl SharedError {
    const fn new(name: &'static str, status: &'static str, description: &'static str) -> Self {
        let header = match status.as_bytes() {
            b"401" => Some((
                "WWW-Authenticate",
                "How to authenticate (RFC 9110 section 11.6.1)",
            )),
            b"429" | b"503" => Some((
                "Retry-After",
                "Time to wait before the next attempt, in whole seconds",
            )),
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
        "`missing_credentials`; `invalid_token`: log in again",
    ),
    SharedError::new(
        "InvalidApiKey",
        "401",
        "`missing_credentials`; `invalid_api_key`: the same for unknown, malformed, revoked, expired and disabled keys",
    ),
    SharedError::new(
        "InvalidCredentials",
        "401",
        "`invalid_credentials`: the e-mail address or the password is wrong",
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
        "`ip_not_allowed`: the key may not be used from this IP address; `insufficient_scope`: the key lacks \
         `missing_scopes`",
    ),
    SharedError::new(
        "NotFound",
        "404",
        "`not_found`: the resource does not exist, or belongs to another account",
    ),
    SharedError::new(
        "EmailTaken",
        "409",
        "`email_taken`: the e-mail address already has an account",
    ),
    SharedError::new(
        "Conflict",
        "409",
        "`conflict`: the present state of the resource does not permit the change; `detail` gives the reason",
    ),
    SharedError::new(
        "RequestTimeout",
        "408",
        "`request_timeout`: the request body did not arrive in time",
    ),
    SharedError::new(
        "PayloadTooLarge",
        "413",
        "`payload_too_large`: the request body is larger than the limit, 64 KiB unless configured otherwise",
    ),
    SharedError::new("UnsupportedMediaType", "415", "`unsupported_media_type`"),
    SharedError::new(
        "ValidationFailed",
        "422",
        "`validation_failed`: `errors` lists the invalid fields, with what would be accepted",
    ),
    SharedError::new(
        "TooManyAttempts",
        "429",
        "`too_many_attempts`: wait as long as `Retry-After` says",
    ),
    SharedError::new(
        "LimitReached",
        "429",
        "`rate_limited`: the rate limit of the key is exhausted; `quota_exceeded`: the quota of the key is used up",
    ),
    SharedError::new(
        "Unavailable",
        "503",
        "`unavailable`: the database is out of reach, or the server is saturated",
    ),
];

/// Declares the shared errors as components, to which operations refer.
pub(super) fn declare(components: &mut Components) {
    for error in &SHARED {
        let response = error.response().into();
        components.responses.insert(error.name.to_owned(), response);
    }
}

/// Adds references to the errors that an operation of this form can have.
pub(super) fn add(path: &str, operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let has = |location| {
        let inline = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.parameter_in == location);
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
