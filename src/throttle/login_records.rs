//! What is remembered of failed logins: whose they are, when they were, and when they are too many.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::IpAddr,
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::domain::{clock::UtcTime, email::EmailKey, error::Error};

/// Failures count for so long.
pub(crate) const WINDOW: Duration = Duration::from_secs(15 * 60);
const PER_ACCOUNT: usize = 10;
const PER_ADDRESS: usize = 100;

/// Accounts, and addresses, that are remembered at once. Past it the one whose last failure is
/// longest ago is forgotten.
const REMEMBERED: usize = 50_000;

/// Whose failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Account(AccountName),
    Address(IpAddr),
}

/// SHA-256 of the name that somebody tries to log in as: as long for any name, and none at all is
/// remembered in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AccountName([u8; 32]);

impl AccountName {
    /// An account's name.
    pub(crate) fn of(email: &EmailKey) -> Self {
        Self(Sha256::digest(email.as_str()).into())
    }

    /// A name that no account can have.
    pub(crate) fn of_nobody(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

/// As it is called where all instances count.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(AccountName(digest)) => {
                f.write_str("account:")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Address(address) => write!(f, "address:{address}"),
        }
    }
}

impl Subject {
    pub(crate) fn limit(&self) -> usize {
        match self {
            Self::Account(_) => PER_ACCOUNT,
            Self::Address(_) => PER_ADDRESS,
        }
    }
}

/// An attempt is refused since there were too many failures.
pub(crate) struct Throttled {
    pub subject: Subject,
    /// Whether it is the first that is refused: one is enough to tell of.
    pub is_first: bool,
    pub retry_after_seconds: u64,
}

impl From<Throttled> for Error {
    fn from(throttled: Throttled) -> Self {
        let retry_after_seconds = throttled.retry_after_seconds;
        Self::TooManyAttempts {
            retry_after_seconds,
        }
    }
}

/// The last failures, oldest first, and the attempts whose end is not known yet.
#[derive(Default)]
pub(crate) struct Record {
    pub failed_at: VecDeque<UtcTime>,
    pub in_progress: usize,
    /// Until when those of all instances are too many.
    pub throttled_until: Option<UtcTime>,
    /// Whether it was told of the refusals that go on.
    pub told: bool,
}

impl Record {
    /// Refuses if there were too many failures.
    pub(crate) fn check(&mut self, subject: Subject, now: UtcTime) -> Result<(), Throttled> {
        let earliest = self.failed_at.len().checked_sub(subject.limit());
        let rest =
            earliest.and_then(|earliest| WINDOW.checked_sub(now.since(self.failed_at[earliest])));
        let rest = rest.max(self.throttled_until.map(|end| end.since(now)));
        match rest.filter(|rest| !rest.is_zero()) {
            None => {
                self.told = false;
                Ok(())
            }
            Some(rest) => Err(Throttled {
                subject,
                is_first: !std::mem::replace(&mut self.told, true),
                retry_after_seconds: rest.as_micros().div_ceil(1_000_000) as u64,
            }),
        }
    }

    pub(crate) fn drop_expired(&mut self, now: UtcTime) {
        self.failed_at.retain(|at| now.since(*at) < WINDOW);
        self.throttled_until.take_if(|end| *end <= now);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.failed_at.is_empty() && self.in_progress == 0 && self.throttled_until.is_none()
    }
}

/// Each failure costs a turn at hashing, so this is rarely reached: see [`REMEMBERED`].
pub(crate) fn make_room(records: &mut HashMap<Subject, Record>, now: UtcTime) {
    if records.len() < REMEMBERED {
        return;
    }
    records.retain(|_, record| {
        record.drop_expired(now);
        !record.is_empty()
    });
    while records.len() >= REMEMBERED {
        let oldest = records
            .iter()
            .filter(|(_, record)| record.in_progress == 0)
            .min_by_key(|(_, record)| record.failed_at.back().copied())
            .map(|(subject, _)| *subject);
        let Some(oldest) = oldest else { return };
        records.remove(&oldest);
    }
}
