//! How often somebody may be wrong about a password, per account and per client address.
//!
//! Kept in memory, per instance, as the times of the failures themselves: the eleventh attempt within
//! any 15 minutes is refused, not merely the eleventh within some window of the clock.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::core::{
    clock::{Clock, UtcTime},
    error::Error,
    security::email::EmailKey,
};

const WINDOW: Duration = Duration::from_secs(15 * 60);
const PER_ACCOUNT: usize = 10;
const PER_ADDRESS: usize = 100;

/// Accounts, and addresses, that are remembered at once. Past it the one whose last failure is
/// longest ago is forgotten.
const REMEMBERED: usize = 50_000;

/// Counts failures. Clones share the counts.
#[derive(Clone)]
pub(super) struct LoginAttempts {
    clock: Clock,
    records: Arc<Mutex<HashMap<Subject, Record>>>,
}

/// Whose failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Account(AccountName),
    Address(IpAddr),
}

/// SHA-256 of the name that somebody tries to log in as: as long for any name, and none at all is
/// remembered in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AccountName([u8; 32]);

impl AccountName {
    /// An account's name.
    pub(super) fn of(email: &EmailKey) -> Self {
        Self(Sha256::digest(email.as_str()).into())
    }

    /// A name that no account can have.
    pub(super) fn of_nobody(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

/// The last failures, oldest first, and the attempts whose end is not known yet.
#[derive(Default)]
struct Record {
    failed_at: VecDeque<UtcTime>,
    under_way: usize,
    /// Whether it was told of the refusals that go on.
    told: bool,
}

/// An attempt is refused since there were too many failures.
pub(super) struct Throttled {
    pub subject: Subject,
    /// Whether it is the first that is refused: one is enough to tell of.
    pub is_first: bool,
    pub retry_after_seconds: u64,
}

/// Why an attempt cannot begin.
pub(super) enum NoAttempt {
    Throttled(Throttled),
    /// As many are under way as may still fail.
    AllUnderWay,
}

impl From<Throttled> for NoAttempt {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled(throttled)
    }
}

impl From<Throttled> for Error {
    fn from(throttled: Throttled) -> Self {
        let retry_after_seconds = throttled.retry_after_seconds;
        Self::TooManyAttempts {
            retry_after_seconds,
        }
    }
}

/// An attempt under way. It counts as a failure unless it is told otherwise: an attacker who hangs
/// up before the answer has tried all the same.
pub(super) struct Attempt {
    attempts: LoginAttempts,
    subjects: [Subject; 2],
    failed: bool,
}

impl LoginAttempts {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            records: Arc::default(),
        }
    }

    /// Refuses with 429 whoever has failed too often. Costs next to nothing, so it stands before the
    /// queue for hashing.
    pub(super) fn check(&self, account: AccountName, address: IpAddr) -> Result<(), Throttled> {
        let now = self.clock.now();
        let mut records = self.lock();
        for subject in subjects(account, address) {
            if let Some(record) = records.get_mut(&subject) {
                record.check(subject, now)?;
            }
        }
        Ok(())
    }

    /// Telling of the first refusal failed: the next one is the first.
    pub(super) fn untold(&self, subject: Subject) {
        if let Some(record) = self.lock().get_mut(&subject) {
            record.told = false;
        }
    }

    /// Begins an attempt, whose place among those that may fail is taken from now on: ever so many
    /// at once are still no more than the limit.
    pub(super) fn begin(
        &self,
        account: AccountName,
        address: IpAddr,
    ) -> Result<Attempt, NoAttempt> {
        let subjects = subjects(account, address);
        let mut records = self.lock();
        let now = self.clock.now();
        for subject in &subjects {
            if let Some(record) = records.get_mut(subject) {
                record.check(*subject, now)?;
                record.forget_old(now);
                if record.failed_at.len() + record.under_way >= subject.limit() {
                    return Err(NoAttempt::AllUnderWay);
                }
            }
        }
        for subject in &subjects {
            make_room(&mut records, now);
            records.entry(*subject).or_default().under_way += 1;
        }
        drop(records);
        Ok(Attempt {
            attempts: self.clone(),
            subjects,
            failed: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, Record>> {
        // No code panics while holding it; and a count is better than none.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subject {
    fn limit(&self) -> usize {
        match self {
            Self::Account(_) => PER_ACCOUNT,
            Self::Address(_) => PER_ADDRESS,
        }
    }
}

impl Record {
    /// Refuses if there were too many failures.
    fn check(&mut self, subject: Subject, now: UtcTime) -> Result<(), Throttled> {
        let earliest = self.failed_at.len().checked_sub(subject.limit());
        let rest =
            earliest.and_then(|earliest| WINDOW.checked_sub(now.since(self.failed_at[earliest])));
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

    fn forget_old(&mut self, now: UtcTime) {
        self.failed_at.retain(|at| now.since(*at) < WINDOW);
    }

    fn is_empty(&self) -> bool {
        self.failed_at.is_empty() && self.under_way == 0
    }
}

impl Attempt {
    /// The password was right, or nobody could tell: it does not count.
    pub(super) fn forgive(mut self) {
        self.failed = false;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let now = self.attempts.clock.now();
        let mut records = self.attempts.lock();
        for subject in &self.subjects {
            let Some(record) = records.get_mut(subject) else {
                continue;
            };
            record.under_way = record.under_way.saturating_sub(1);
            record.forget_old(now);
            if self.failed {
                record.failed_at.push_back(now);
            }
            if record.is_empty() {
                records.remove(subject);
            }
        }
    }
}

/// One who holds an IPv6 network has all of its addresses: what counts is the /64.
fn subjects(account: AccountName, address: IpAddr) -> [Subject; 2] {
    let address = match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    };
    [Subject::Account(account), Subject::Address(address)]
}

/// Each failure costs a turn at hashing, so this is rarely reached: see [`REMEMBERED`].
fn make_room(records: &mut HashMap<Subject, Record>, now: UtcTime) {
    if records.len() < REMEMBERED {
        return;
    }
    records.retain(|_, record| {
        record.forget_old(now);
        !record.is_empty()
    });
    while records.len() >= REMEMBERED {
        let oldest = records
            .iter()
            .filter(|(_, record)| record.under_way == 0)
            .min_by_key(|(_, record)| record.failed_at.back().copied())
            .map(|(subject, _)| *subject);
        let Some(oldest) = oldest else { return };
        records.remove(&oldest);
    }
}
