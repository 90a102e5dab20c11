//! Why a key is not good.

use crate::core::error::Error;

/// Why a key is not good, in the contract's order. The caller is not told which of the first four it is:
/// that goes to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Malformed, mistyped, or never issued.
    NotFound,
    /// Switched off by its owner, or its owner is deactivated.
    Disabled,
    /// Its time is over.
    Expired,
    /// Revoked for good.
    Revoked,
    /// The client's address is not in the key's allowlist.
    IpNotAllowed,
    /// The key lacks these scopes.
    InsufficientScope(Vec<String>),
    /// It was used too often lately.
    RateLimited { retry_after_seconds: u64 },
    /// It was used as often as it may.
    QuotaExceeded { retry_after_seconds: u64 },
}

impl Refusal {
    /// Whether the key itself is good, and only this use of it is not.
    pub(super) fn is_of_this_use(&self) -> bool {
        matches!(self, Self::IpNotAllowed | Self::InsufficientScope(_))
    }

    /// The contract's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::RateLimited { .. } => "rate_limited",
            Self::QuotaExceeded { .. } => "quota_exceeded",
        }
    }
}

/// What the caller is told.
impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotFound | Refusal::Disabled | Refusal::Expired | Refusal::Revoked => {
                Self::InvalidApiKey
            }
            Refusal::IpNotAllowed => Self::IpNotAllowed,
            Refusal::InsufficientScope(missing) => Self::InsufficientScope(missing.clone()),
            Refusal::RateLimited {
                retry_after_seconds,
            } => Self::RateLimited {
                retry_after_seconds: *retry_after_seconds,
            },
            Refusal::QuotaExceeded {
                retry_after_seconds,
            } => Self::QuotaExceeded {
                retry_after_seconds: *retry_after_seconds,
            },
        }
    }
}
