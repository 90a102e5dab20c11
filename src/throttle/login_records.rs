//! Records of failed logins per account and per client address, and the check whether there were too many.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::IpAddr,
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::domain::{clock::UtcTime, email::EmailKey, error::Error};

/// Time for which a failure counts.
pub(crate) const WINDOW: Duration = Duration::from_secs(15 * 60);
const MAX_FAILURES_PER_ACCOUNT: usize = 10;
const MAX_FAILURES_PER_ADDRESS: usize = 100;

/// Maximum number of records. Beyond it the record with the oldest last failure is evicted.
const MAX_RECORDS: usize = 50_000;

/// Subject whose failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Account(AccountName),
    Address(IpAddr),
}

/// SHA-256 of the name in a login attempt. It has the same length for all names, and no name is stored in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AccountName([u8; 32]);

impl AccountName {
    /// Returns the name of an account.
    pub(crate) fn of(email: &EmailKey) -> Self {
        Self(Sha256::digest(email.as_str()).into())
    }

    /// Returns the name for a text that is no e-mail address, and so belongs to no account.
    pub(crate) fn of_no_account(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

/// Formats a subject as part of its Redis key.
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
    /// Returns the number of failures allowed within [`WINDOW`].
    pub(crate) fn limit(&self) -> usize {
        match self {
            Self::Account(_) => MAX_FAILURES_PER_ACCOUNT,
            Self::Address(_) => MAX_FAILURES_PER_ADDRESS,
        }
    }
}

/// Rejection of an attempt because of too many failures.
pub(crate) struct Throttled {
    pub subject: Subject,
    /// True for the first rejection since the subject was last allowed. Only that one is written to the audit log.
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

/// Recent failures of a subject, oldest first, and its attempts in progress.
#[derive(Default)]
pub(crate) struct Record {
    pub failed_at: VecDeque<UtcTime>,
    pub in_progress: usize,
    /// End of the throttling that Redis reported for all instances.
    pub throttled_until: Option<UtcTime>,
    /// True if the current series of rejections is in the audit log.
    pub was_audited: bool,
}

impl Record {
    /// Rejects an attempt if there were too many failures.
    pub(crate) fn check(&mut self, subject: Subject, now: UtcTime) -> Result<(), Throttled> {
        let decisive = self.failed_at.len().checked_sub(subject.limit());
        let wait =
            decisive.and_then(|decisive| WINDOW.checked_sub(now.since(self.failed_at[decisive])));
        let wait = wait.max(self.throttled_until.map(|end| end.since(now)));
        match wait.filter(|wait| !wait.is_zero()) {
            None => {
                self.was_audited = false;
                Ok(())
            }
            Some(wait) => Err(Throttled {
                subject,
                is_first: !std::mem::replace(&mut self.was_audited, true),
                retry_after_seconds: wait.as_micros().div_ceil(1_000_000) as u64,
            }),
        }
    }

    /// Drops the failures and the throttling that have expired.
    pub(crate) fn drop_expired(&mut self, now: UtcTime) {
        self.failed_at.retain(|at| now.since(*at) < WINDOW);
        self.throttled_until.take_if(|end| *end <= now);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.failed_at.is_empty() && self.in_progress == 0 && self.throttled_until.is_none()
    }
}

/// Makes room for a record if there are [`MAX_RECORDS`]. That is rare: each failure costs a password hash.
pub(crate) fn make_room(records: &mut HashMap<Subject, Record>, now: UtcTime) {
    if records.len() < MAX_RECORDS {
        return;
    }
    records.retain(|_, record| {
        record.drop_expired(now);
        !record.is_empty()
    });
    while records.len() >= MAX_RECORDS {
        let oldest = records
            .iter()
            .filter(|(_, record)| record.in_progress == 0)
            .min_by_key(|(_, record)| record.failed_at.back().copied())
            .map(|(subject, _)| *subject);
        let Some(oldest) = oldest else { return };
        records.remove(&oldest);
    }
}
