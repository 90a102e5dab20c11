//! Reasons to reject a key.

use crate::domain::{error::Error, usage::Outcome};

/// Reason to reject a key, in the order in which the API contract checks them.
///
/// The client cannot tell the first four apart. Only the log distinguishes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The key is malformed, mistyped, or was never issued.
    NotFound,
    /// The owner has disabled the key, or the owner's account is deactivated.
    Disabled,
    /// The expiry of the key has passed.
    Expired,
    /// The key was revoked permanently.
    Revoked,
    /// The client's address is not in the key's allowlist.
    IpNotAllowed,
    /// The key lacks these scopes.
    InsufficientScope(Vec<String>),
    /// The key has exceeded its rate limit.
    RateLimited { retry_after_seconds: u64 },
    /// The key has used up its quota.
    QuotaExceeded { retry_after_seconds: u64 },
}

impl Rejection {
    /// Returns whether the key is valid and only the client's address or the required scopes caused the rejection.
    pub(super) fn depends_on_request(&self) -> bool {
        matches!(self, Self::IpNotAllowed | Self::InsufficientScope(_))
    }

    /// Returns the outcome under which a check with this rejection is counted.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotFound => Outcome::NotFound,
            Self::Disabled => Outcome::Disabled,
            Self::Expired => Outcome::Expired,
            Self::Revoked => Outcome::Revoked,
            Self::IpNotAllowed => Outcome::IpNotAllowed,
            Self::InsufficientScope(_) => Outcome::InsufficientScope,
            Self::RateLimited { .. } => Outcome::RateLimited,
            Self::QuotaExceeded { .. } => Outcome::QuotaExceeded,
        }
    }

    /// Returns the code in the API contract.
    pub fn code(&self) -> &'static str {
        self.outcome().as_str()
    }
}

impl Outcome {
    /// Returns the outcome of a check with this rejection, or without one.
    pub(crate) fn of(rejection: Option<&Rejection>) -> Self {
        rejection.map_or(Self::Valid, Rejection::outcome)
    }
}

/// Converts a rejection into the error that the client gets.
impl From<&Rejection> for Error {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::NotFound | Rejection::Disabled | Rejection::Expired | Rejection::Revoked => {
                Self::InvalidApiKey
            }
            Rejection::IpNotAllowed => Self::IpNotAllowed,
            Rejection::InsufficientScope(missing) => Self::InsufficientScope(missing.clone()),
            Rejection::RateLimited {
                retry_after_seconds,
            } => Self::RateLimited {
                retry_after_seconds: *retry_after_seconds,
            },
            Rejection::QuotaExceeded {
                retry_after_seconds,
            } => Self::QuotaExceeded {
                retry_after_seconds: *retry_after_seconds,
            },
        }
    }
}
