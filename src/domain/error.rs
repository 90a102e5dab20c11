//! The contract's table of errors, and how each becomes `application/problem+json` (RFC 9457).
//!
//! Which error belongs where: `models` answer `QueryResult`; [`crate::db`] turns what went wrong there
//! into [`Error::Unavailable`] or [`Error::Internal`]; `services` add what a person can do wrong;
//! `extract` and `middleware` what a request can. Nothing else speaks HTTP. The cause of a 5xx goes
//! to the log, never to the client.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use utoipa::ToSchema;

/// How long a client is asked to wait when the database is out of reach or the server saturated.
const RETRY_UNAVAILABLE_SECONDS: u64 = 1;

/// What a request can end in besides success.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("The body is not valid JSON: {0}.")]
    InvalidJson(String),
    #[error("The cursor is not one that this list gave out. Start again without it.")]
    InvalidCursor,
    #[error("The request carries two different credentials. Send one.")]
    AmbiguousCredentials,
    #[error("{0}")]
    InvalidRequest(Cow<'static, str>),

    #[error("{}", .0.how_to_send())]
    MissingCredentials(Credential),
    #[error("The e-mail address or the password is wrong.")]
    InvalidCredentials,
    #[error("The token is not valid, has expired or was ended. Log in again.")]
    InvalidToken,
    #[error("The API key is not valid.")]
    InvalidApiKey,

    #[error("{0}")]
    PermissionDenied(Cow<'static, str>),
    #[error("The API key may not be used from this address.")]
    IpNotAllowed,
    #[error("The API key lacks what this needs: {}.", .0.join(", "))]
    InsufficientScope(Vec<String>),
    #[error("There is nothing here under this address.")]
    NotFound,
    #[error("This address does not answer that method. It answers {0}.")]
    MethodNotAllowed(String),
    #[error("There is an account for this e-mail address already. Log in, or use another address.")]
    EmailTaken,
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    #[error("The body did not come in time. Send the request again.")]
    BodyTooSlow,
    #[error("The head of the request did not come in time. Send it again.")]
    HeadTooSlow,
    #[error(
        "The head of the request is too large, or has too many headers. Send fewer and shorter headers."
    )]
    HeadTooLarge,
    #[error("The body is larger than {} bytes.", .0)]
    PayloadTooLarge(usize),
    #[error("The body has the wrong media type. Send {0}.")]
    UnsupportedMediaType(&'static str),
    #[error("Some of the input is not acceptable. `errors` says what.")]
    Validation(Vec<FieldError>),
    #[error("Too many attempts. Wait {retry_after_seconds} seconds, then try again.")]
    TooManyAttempts { retry_after_seconds: u64 },
    #[error(
        "The API key's rate limit is reached. Wait {retry_after_seconds} seconds, then try again."
    )]
    RateLimited { retry_after_seconds: u64 },
    #[error(
        "The API key's quota is used up. Wait {retry_after_seconds} seconds, or have it raised."
    )]
    QuotaExceeded { retry_after_seconds: u64 },

    /// This instance should be sent nothing at the moment. The text says what is missing.
    #[error("Not ready: {0}.")]
    NotReady(String),
    /// The database is out of reach, or the server is saturated. The text is for the log.
    #[error("The service cannot answer right now. Try again in a moment.")]
    Unavailable(Cow<'static, str>),
    /// A fault of ours. The text is for the log.
    #[error("Something went wrong on our side. The request id helps us to find it.")]
    Internal(Cow<'static, str>),
}

/// What a route wants to be shown.
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

/// One thing that is wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the body; for a query parameter, its name after `?`; for a part of
    /// the path, its name in braces.
    #[schema(example = "/password")]
    pub pointer: String,
    /// What would be accepted.
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

    /// The same of a query parameter: there is no body to point into.
    pub(crate) fn of_query(self) -> Self {
        Self {
            pointer: self.pointer.replacen('/', "?", 1),
            ..self
        }
    }
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says the kind, `code` the exact case (RFC 9457 section 4.2.1).
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status, repeated.
    status: u16,
    /// A sentence that says what to do.
    detail: String,
    /// Stable and machine-readable.
    code: &'static str,
    /// The same as in the `X-Request-Id` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    request_id: Option<String>,
    /// For 422: what is wrong with the input, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<FieldError>>,
    /// For `insufficient_scope`: the scopes that the key would need besides its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_scopes: Option<Vec<String>>,
}

impl Error {
    /// A fault of ours, with its cause for the log.
    pub(crate) fn internal(cause: impl fmt::Display) -> Self {
        Self::Internal(cause.to_string().into())
    }

    /// An input that is wrong in one place.
    pub(crate) fn invalid_field(pointer: &str, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::of(pointer, message)])
    }

    /// The error that says the same as a status without a body, where there is one.
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

    /// `status` and `code`, as the contract's table has them.
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

    /// What the log needs to know and the client must not.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::NotReady(cause) => Some(cause),
            Self::Unavailable(cause) | Self::Internal(cause) => Some(cause),
            _ => None,
        }
    }

    /// The body of the answer, with the request's id where it is known.
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

    /// The whole answer.
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

/// Lets handlers and extractors use `?`. The request's id is not known here: the outermost middleware
/// finds the error in the response and answers again with it.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn error_response(&self) -> HttpResponse {
        self.respond(None)
    }
}
