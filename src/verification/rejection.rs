//! Why a key is not good.

use crate::domain::{error::Error, usage::Outcome};

/// Why a key is not good, in the contract's order. The caller is not told which of the first four it is:
/// that goes to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
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

impl Rejection {
    /// Whether the key itself is good, and only this use of it is not.
    pub(super) fn is_of_this_use(&self) -> bool {
        matches!(self, Self::IpNotAllowed | Self::InsufficientScope(_))
    }

    /// What came of a check that ended so.
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

    /// The contract's code.
    pub fn code(&self) -> &'static str {
        self.outcome().as_str()
    }
}

impl Outcome {
    /// What came of a check that was refused so, if it was.
    pub(crate) fn of(refusal: Option<&Rejection>) -> Self {
        refusal.map_or(Self::Valid, Rejection::outcome)
    }
}

/// What the caller is told.
impl From<&Rejection> for Error {
    fn from(refusal: &Rejection) -> Self {
        match refusal {
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
