//! How often somebody may be wrong about a password, per account and per client address.
//!
//! Kept in memory, as the times of the failures themselves: the eleventh attempt within any 15 minutes is
//! refused, not merely the eleventh within some window of the clock, and not one more for each that is
//! forgotten, as a bucket that leaks would have it. Where instances count together, they keep the same
//! there as well; while that is away, each counts for itself.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::login_records::{AccountName, Record, Subject, Throttled, WINDOW, make_room};
use crate::{
    domain::clock::Clock,
    {
        redis::{LoginPermit, LoginStep, LoginSubject, Redis},
        verification::limits::network_of,
    },
};

/// Counts failures. Clones share the counts.
#[derive(Clone)]
pub(crate) struct LoginThrottle {
    clock: Clock,
    /// Where all instances count.
    redis: Option<Redis>,
    records: Arc<Mutex<HashMap<Subject, Record>>>,
}

/// Why an attempt cannot begin.
pub(crate) enum LoginRejection {
    Throttled(Throttled),
    /// As many are under way as may still fail.
    TooManyInProgress,
}

impl From<Throttled> for LoginRejection {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled(throttled)
    }
}

/// An attempt under way. It counts as a failure unless it is told otherwise: an attacker who hangs
/// up before the answer has tried all the same.
pub(crate) struct LoginAttempt {
    attempts: LoginThrottle,
    subjects: [Subject; 2],
    /// Tells it from others, where all instances count.
    id: String,
    is_over: bool,
}

impl LoginThrottle {
    pub(crate) fn new(clock: Clock, redis: Option<Redis>) -> Self {
        Self {
            clock,
            redis,
            records: Arc::default(),
        }
    }

    /// Refuses with 429 whoever has failed too often. Costs next to nothing, so it stands before the
    /// queue for hashing.
    pub(crate) async fn check(
        &self,
        account: AccountName,
        address: IpAddr,
    ) -> Result<(), Throttled> {
        let subjects = subjects(account, address);
        self.check_own(&subjects)?;
        // That all are under way is seen to when it begins.
        self.login_step(LoginStep::Ask, "", &subjects).await;
        self.check_own(&subjects)
    }

    fn check_own(&self, subjects: &[Subject; 2]) -> Result<(), Throttled> {
        let now = self.clock.now();
        let mut records = self.lock();
        for subject in subjects {
            if let Some(record) = records.get_mut(subject) {
                record.check(*subject, now)?;
            }
        }
        Ok(())
    }

    /// Does it where all instances count, and notes if they have counted too many. `false` if as many are
    /// under way as may still fail.
    async fn login_step(&self, login_step: LoginStep, id: &str, subjects: &[Subject; 2]) -> bool {
        let Some(redis) = &self.redis else {
            return true;
        };
        let attempted = subjects.map(|subject| LoginSubject {
            name: format!("latchkey:login:{subject}"),
            limit: subject.limit(),
        });
        match redis.login_step(login_step, id, &attempted, WINDOW).await {
            Ok(LoginPermit::Throttled { subject, wait }) => {
                let now = self.clock.now();
                let mut records = self.lock();
                make_room(&mut records, now);
                let record = records.entry(subjects[subject.min(1)]).or_default();
                record.throttled_until = Some(now.plus(wait));
                true
            }
            Ok(LoginPermit::TooManyInProgress) => false,
            Ok(LoginPermit::Granted) | Err(_) => true,
        }
    }

    /// Telling of the first refusal failed: the next one is the first.
    pub(crate) fn untold(&self, subject: Subject) {
        if let Some(record) = self.lock().get_mut(&subject) {
            record.told = false;
        }
    }

    /// Begins an attempt, whose place among those that may fail is taken from now on: ever so many
    /// at once are still no more than the limit.
    pub(crate) async fn begin(
        &self,
        account: AccountName,
        address: IpAddr,
    ) -> Result<LoginAttempt, LoginRejection> {
        let attempt = self.begin_own(subjects(account, address))?;
        let is_free = self
            .login_step(LoginStep::Begin, &attempt.id, &attempt.subjects)
            .await;
        match (is_free, self.check_own(&attempt.subjects)) {
            (true, Ok(())) => Ok(attempt),
            (_, refused) => {
                attempt.forgive().await;
                refused?;
                Err(LoginRejection::TooManyInProgress)
            }
        }
    }

    fn begin_own(&self, subjects: [Subject; 2]) -> Result<LoginAttempt, LoginRejection> {
        let mut records = self.lock();
        let now = self.clock.now();
        for subject in &subjects {
            if let Some(record) = records.get_mut(subject) {
                record.check(*subject, now)?;
                record.drop_expired(now);
                if record.failed_at.len() + record.in_progress >= subject.limit() {
                    return Err(LoginRejection::TooManyInProgress);
                }
            }
        }
        for subject in &subjects {
            make_room(&mut records, now);
            records.entry(*subject).or_default().in_progress += 1;
        }
        drop(records);
        Ok(LoginAttempt {
            attempts: self.clone(),
            subjects,
            id: Uuid::new_v4().simple().to_string(),
            is_over: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, Record>> {
        // No code panics while holding it; and a count is better than none.
        self.records.lock()
    }
}

impl LoginAttempt {
    /// The password was wrong.
    pub(crate) async fn fail(mut self) {
        self.end(true);
        self.attempts
            .login_step(LoginStep::Fail, &self.id, &self.subjects)
            .await;
    }

    /// The password was right, or nobody could tell: it does not count.
    pub(crate) async fn forgive(mut self) {
        self.end(false);
        self.attempts
            .login_step(LoginStep::Forgive, &self.id, &self.subjects)
            .await;
    }

    fn end(&mut self, failed: bool) {
        self.is_over = true;
        let now = self.attempts.clock.now();
        let mut records = self.attempts.lock();
        for subject in &self.subjects {
            let Some(record) = records.get_mut(subject) else {
                continue;
            };
            record.in_progress = record.in_progress.saturating_sub(1);
            record.drop_expired(now);
            if failed {
                record.failed_at.push_back(now);
            }
            if record.is_empty() {
                records.remove(subject);
            }
        }
    }
}

impl Drop for LoginAttempt {
    /// Nobody waited for its end, which is told of where all count when it has lasted too long.
    fn drop(&mut self) {
        if !self.is_over {
            self.end(true);
        }
    }
}

fn subjects(account: AccountName, address: IpAddr) -> [Subject; 2] {
    [
        Subject::Account(account),
        Subject::Address(network_of(address)),
    ]
}
