//! Throttle for failed logins, per account and per client address.
//!
//! The times of the failures are kept in memory. So the eleventh attempt within any 15 minutes is rejected. A fixed
//! window would count only from its start, and a leaky bucket would allow one more attempt for each failure that
//! leaks out. With Redis, all instances record their failures there as well. While Redis is unreachable, each
//! instance counts its own failures.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::login_records::{AccountName, Record, Subject, Throttled, WINDOW, make_room};
use crate::{
    domain::clock::Clock,
    redis::{LoginPermit, LoginStep, LoginSubject, Redis},
    verification::limits::network_of,
};

/// Throttle for failed logins. Clones share the counts.
#[derive(Clone)]
pub(crate) struct LoginThrottle {
    clock: Clock,
    /// Counts of all instances. `None` if each instance counts its own only.
    redis: Option<Redis>,
    records: Arc<Mutex<HashMap<Subject, Record>>>,
}

/// Reason why an attempt cannot begin.
pub(crate) enum LoginRejection {
    Throttled(Throttled),
    /// Too many attempts are in progress: if all failed, the limit would be reached.
    TooManyInProgress,
}

impl From<Throttled> for LoginRejection {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled(throttled)
    }
}

/// Login attempt in progress. It counts as a failure unless it is forgiven: an attacker who disconnects before the
/// response has made an attempt nevertheless.
pub(crate) struct LoginAttempt {
    throttle: LoginThrottle,
    subjects: [Subject; 2],
    /// Identifies the attempt in Redis.
    id: String,
    has_ended: bool,
}

impl LoginThrottle {
    pub(crate) fn new(clock: Clock, redis: Option<Redis>) -> Self {
        Self {
            clock,
            redis,
            records: Arc::default(),
        }
    }

    /// Rejects an attempt (429) if there were too many failures. It is cheap, so it comes before the wait queue for
    /// hashing.
    pub(crate) async fn check(
        &self,
        account: AccountName,
        address: IpAddr,
    ) -> Result<(), Throttled> {
        let subjects = subjects(account, address);
        self.check_local(&subjects)?;
        // Attempts in progress are checked when the attempt begins.
        self.login_step(LoginStep::Ask, "", &subjects).await;
        self.check_local(&subjects)
    }

    fn check_local(&self, subjects: &[Subject; 2]) -> Result<(), Throttled> {
        let now = self.clock.now();
        let mut records = self.lock();
        for subject in subjects {
            if let Some(record) = records.get_mut(subject) {
                record.check(*subject, now)?;
            }
        }
        Ok(())
    }

    /// Records a step in Redis, and stores locally if Redis has counted too many failures. Returns false if as many
    /// attempts are in progress as may still fail.
    async fn login_step(&self, login_step: LoginStep, id: &str, subjects: &[Subject; 2]) -> bool {
        let Some(redis) = &self.redis else {
            return true;
        };
        let login_subjects = subjects.map(|subject| LoginSubject {
            name: format!("latchkey:login:{subject}"),
            limit: subject.limit(),
        });
        match redis
            .login_step(login_step, id, &login_subjects, WINDOW)
            .await
        {
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

    /// Marks the first rejection as not audited, since writing it failed. The next rejection counts as the first.
    pub(crate) fn mark_unaudited(&self, subject: Subject) {
        if let Some(record) = self.lock().get_mut(&subject) {
            record.was_audited = false;
        }
    }

    /// Begins an attempt. It counts against the limit from now on, so that concurrent attempts cannot exceed it.
    pub(crate) async fn begin(
        &self,
        account: AccountName,
        address: IpAddr,
    ) -> Result<LoginAttempt, LoginRejection> {
        let attempt = self.begin_local(subjects(account, address))?;
        let is_granted = self
            .login_step(LoginStep::Begin, &attempt.id, &attempt.subjects)
            .await;
        match (is_granted, self.check_local(&attempt.subjects)) {
            (true, Ok(())) => Ok(attempt),
            (_, rejected) => {
                attempt.forgive().await;
                rejected?;
                Err(LoginRejection::TooManyInProgress)
            }
        }
    }

    fn begin_local(&self, subjects: [Subject; 2]) -> Result<LoginAttempt, LoginRejection> {
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
            throttle: self.clone(),
            subjects,
            id: Uuid::new_v4().simple().to_string(),
            has_ended: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, Record>> {
        self.records.lock()
    }
}

impl LoginAttempt {
    /// Ends the attempt as a failure: the password was wrong.
    pub(crate) async fn fail(mut self) {
        self.end(true);
        self.throttle
            .login_step(LoginStep::Fail, &self.id, &self.subjects)
            .await;
    }

    /// Ends the attempt without counting it: the password was right, or could not be checked.
    pub(crate) async fn forgive(mut self) {
        self.end(false);
        self.throttle
            .login_step(LoginStep::Forgive, &self.id, &self.subjects)
            .await;
    }

    fn end(&mut self, failed: bool) {
        self.has_ended = true;
        let now = self.throttle.clock.now();
        let mut records = self.throttle.lock();
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
    /// Counts an abandoned attempt as a failure. Redis counts it once it has been in progress for too long.
    fn drop(&mut self) {
        if !self.has_ended {
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
