//! Error type of the service, with the table of its HTTP statuses and codes. Each error becomes
//! `application/problem+json` (RFC 9457).
//!
//! | layer | errors |
//! |---|---|
//! | `models` | return `QueryResult` |
//! | [`crate::db`] | turns failures of the database into [`Error::Unavailable`] or [`Error::Internal`] |
//! | `services` | add the errors of a use case |
//! | `extract`, `middleware` | add the errors of a request's form and credentials |
//!
//! No other layer knows HTTP. The cause of a 5xx goes to the log, never to the client.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use utoipa::ToSchema;

/// `Retry-After` when the database is out of reach or the server is saturated, in seconds.
const RETRY_UNAVAILABLE_SECONDS: u64 = 1;

/// Error that a request can end with. The text is the `detail` of the response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("The body is not valid JSON: {0}.")]
    InvalidJson(String),
    #[error("The cursor is not valid for this list. Start again without a cursor.")]
    InvalidCursor,
    #[error("The request contains two different credentials. Send only one.")]
    AmbiguousCredentials,
    #[error("{0}")]
    InvalidRequest(Cow<'static, str>),

    #[error("{}", .0.how_to_send())]
    MissingCredentials(Credential),
    #[error("The e-mail address or the password is wrong.")]
    InvalidCredentials,
    #[error("The token is invalid, expired or no longer accepted. Log in again.")]
    InvalidToken,
    #[error("The API key is not valid.")]
    InvalidApiKey,

    #[error("{0}")]
    PermissionDenied(Cow<'static, str>),
    #[error("The API key may not be used from this IP address.")]
    IpNotAllowed,
    #[error("The API key lacks required scopes: {}.", .0.join(", "))]
    InsufficientScope(Vec<String>),
    #[error("Not found. Check the path and the id.")]
    NotFound,
    #[error("This URL does not support the method. It supports {0}.")]
    MethodNotAllowed(String),
    #[error("The e-mail address already has an account. Log in, or use another address.")]
    EmailTaken,
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    #[error("The request body did not arrive in time. Send the request again.")]
    BodyTooSlow,
    #[error("The request headers did not arrive in time. Send the request again.")]
    HeadTooSlow,
    #[error(
        "The header section of the request is too large, or has too many headers. Send fewer and shorter headers."
    )]
    HeadTooLarge,
    #[error("The request body is larger than the limit of {} bytes.", .0)]
    PayloadTooLarge(usize),
    #[error("The media type of the request body is not supported. Send {0}.")]
    UnsupportedMediaType(&'static str),
    #[error("The request contains invalid values. `errors` lists them.")]
    Validation(Vec<FieldError>),
    #[error("Too many attempts. Wait {retry_after_seconds} seconds, then try again.")]
    TooManyAttempts { retry_after_seconds: u64 },
    #[error(
        "The API key's rate limit is exhausted. Wait {retry_after_seconds} seconds, then try again."
    )]
    RateLimited { retry_after_seconds: u64 },
    #[error(
        "The API key's quota is used up. Wait {retry_after_seconds} seconds, or have it raised."
    )]
    QuotaExceeded { retry_after_seconds: u64 },

    /// The instance must not receive requests at present. The text gives the reason.
    #[error("Not ready: {0}.")]
    NotReady(String),
    /// The database is out of reach, or the server is saturated. The text is for the log.
    #[error("The service is temporarily unavailable. Try again in a moment.")]
    Unavailable(Cow<'static, str>),
    /// Fault of the service. The text is for the log.
    #[error("The service failed to process the request. Report the request id to its operator.")]
    Internal(Cow<'static, str>),
}

/// Kind of credential that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A token from `POST /auth/login`.
    UserToken,
    /// A key from `POST /api-keys`.
    ApiKey,
}

impl Credential {
    fn how_to_send(self) -> &'static str {
        match self {
            Self::UserToken => "Send a token from POST /auth/login as `Authorization: Bearer …`.",
            Self::ApiKey => "Send an API key as `x-api-key: sk_…` or `Authorization: Bearer sk_…`.",
        }
    }
}

/// Error in one field of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Place of the error: a JSON Pointer (RFC 6901) into the body, `?` and the name of a query parameter, or the
    /// name of a path parameter in braces.
    #[schema(example = "/password")]
    pub pointer: String,
    /// Description of what would be accepted.
    #[schema(example = "must be 8 to 72 bytes long")]
    pub message: String,
}

impl FieldError {
    pub(crate) fn of(pointer: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.to_owned(),
            message: message.into(),
        }
    }

    /// Converts the pointer into the form for a query parameter: `/name` into `?name`.
    pub(crate) fn of_query(self) -> Self {
        Self {
            pointer: self.pointer.replacen('/', "?", 1),
            ..self
        }
    }
}

/// Body of every error response (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status gives the kind of error, `code` the exact case (RFC 9457 section 4.2.1).
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// Reason phrase of the HTTP status.
    title: &'static str,
    /// HTTP status of the response.
    status: u16,
    /// Explanation of the error, with what to do about it.
    detail: String,
    /// Stable, machine-readable code of the error.
    code: &'static str,
    /// Id of the request, as in the `X-Request-Id` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    request_id: Option<String>,
    /// For 422: the errors of the input, by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<FieldError>>,
    /// For `insufficient_scope`: the required scopes that the key lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_scopes: Option<Vec<String>>,
}

impl Error {
    /// Creates the error of a fault of the service, with its cause for the log.
    pub(crate) fn internal(cause: impl fmt::Display) -> Self {
        Self::Internal(cause.to_string().into())
    }

    /// Creates a validation error of one field.
    pub(crate) fn invalid_field(pointer: &str, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::of(pointer, message)])
    }

    /// Returns the error that corresponds to the status of a response without a body, if there is one.
    pub(crate) fn from_status(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::BAD_REQUEST => Some(Self::InvalidRequest(
                "The request could not be read.".into(),
            )),
            StatusCode::NOT_FOUND => Some(Self::NotFound),
            status if status.is_server_error() => Some(Self::internal(status)),
            _ => None,
        }
    }

    /// Returns `status` and `code`: the error table of the HTTP API.
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::InvalidCursor => (StatusCode::BAD_REQUEST, "invalid_cursor"),
            Self::AmbiguousCredentials => (StatusCode::BAD_REQUEST, "ambiguous_credentials"),
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::MissingCredentials(_) => (StatusCode::UNAUTHORIZED, "missing_credentials"),
            Self::InvalidCredentials => (StatusCode::UNAUTHORIZED, "invalid_credentials"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::InvalidApiKey => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
            Self::PermissionDenied(_) => (StatusCode::FORBIDDEN, "permission_denied"),
            Self::IpNotAllowed => (StatusCode::FORBIDDEN, "ip_not_allowed"),
            Self::InsufficientScope(_) => (StatusCode::FORBIDDEN, "insufficient_scope"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::EmailTaken => (StatusCode::CONFLICT, "email_taken"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::BodyTooSlow | Self::HeadTooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "request_timeout")
            }
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
            ),
            Self::PayloadTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::Validation(_) => (StatusCode::UNPROCESSABLE_ENTITY, "validation_failed"),
            Self::TooManyAttempts { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::QuotaExceeded { .. } => (StatusCode::TOO_MANY_REQUESTS, "quota_exceeded"),
            Self::NotReady(_) | Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// Returns the cause, which is for the log and must not reach the client.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::NotReady(cause) => Some(cause),
            Self::Unavailable(cause) | Self::Internal(cause) => Some(cause),
            _ => None,
        }
    }

    /// Returns the body of the response, with the request id if it is known.
    pub(crate) fn problem(&self, request_id: Option<&str>) -> Problem {
        let (status, code) = self.status_and_code();
        Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
            code,
            request_id: request_id.map(str::to_owned),
            errors: match self {
                Self::Validation(errors) => Some(errors.clone()),
                _ => None,
            },
            missing_scopes: match self {
                Self::InsufficientScope(missing) => Some(missing.clone()),
                _ => None,
            },
        }
    }

    /// Builds the response, with the headers that belong to the error.
    pub(crate) fn respond(&self, request_id: Option<&str>) -> HttpResponse {
        let (status, _) = self.status_and_code();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        match self {
            Self::InvalidToken | Self::InvalidApiKey => {
                let challenge = r#"Bearer realm="latchkey", error="invalid_token""#;
                response.insert_header((header::WWW_AUTHENTICATE, challenge));
            }
            Self::MissingCredentials(_) | Self::InvalidCredentials => {
                response.insert_header((header::WWW_AUTHENTICATE, r#"Bearer realm="latchkey""#));
            }
            Self::MethodNotAllowed(allow) => {
                response.insert_header((header::ALLOW, allow.as_str()));
            }
            Self::TooManyAttempts {
                retry_after_seconds,
            }
            | Self::RateLimited {
                retry_after_seconds,
            }
            | Self::QuotaExceeded {
                retry_after_seconds,
            } => {
                response.insert_header((header::RETRY_AFTER, *retry_after_seconds));
            }
            Self::NotReady(_) | Self::Unavailable(_) => {
                response.insert_header((header::RETRY_AFTER, RETRY_UNAVAILABLE_SECONDS));
            }
            _ => {}
        }
        response.json(self.problem(request_id))
    }
}

/// Lets handlers and extractors use `?`. The request id is not known here: the outermost middleware finds the error
/// in the response and renders it again with the id.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn error_response(&self) -> HttpResponse {
        self.respond(None)
    }
}
