//! Password attempts of logins and password changes: throttled, with an audit event for the first rejection.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Map;

use super::{
    audit::{self, By, Target},
    caller::Origin,
};
use crate::{
    db::Db,
    domain::{clock::Clock, email::EmailKey, error::Error, id::UserId},
    models::{
        audit_log::Action,
        user::{self, User},
    },
    redis::Redis,
    throttle::{
        login::{LoginAttempt, LoginRejection, LoginThrottle},
        login_records::{AccountName, Subject, Throttled},
    },
};

/// Throttle for password attempts that writes rejections to the audit log.
pub(super) struct PasswordAttempts {
    db: Db,
    clock: Clock,
    throttle: LoginThrottle,
}

/// Attempt at a password: the account it is for, and the origin of the request.
pub(super) struct PasswordAttempt<'a> {
    account: AccountName,
    target_account: AttemptTarget,
    origin: &'a Origin,
}

/// Account whose password is attempted, for the audit log.
#[derive(Clone)]
enum AttemptTarget {
    /// The logged-in caller's account.
    Caller(UserId),
    /// The account with this e-mail address, if there is one.
    Named(EmailKey),
    /// No account: the text is no e-mail address.
    NoAddress,
}

impl<'a> PasswordAttempt<'a> {
    /// Creates an attempt to log in with this e-mail address.
    pub(super) fn for_email(email: EmailKey, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of(&email),
            target_account: AttemptTarget::Named(email),
            origin,
        }
    }

    /// Creates an attempt to log in with a text that is no e-mail address.
    pub(super) fn for_other_text(text: &str, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of_no_account(text),
            target_account: AttemptTarget::NoAddress,
            origin,
        }
    }

    /// Creates an attempt of a caller who has logged in already.
    pub(super) fn for_caller(user: &User, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of(&user.email_key),
            target_account: AttemptTarget::Caller(user.id),
            origin,
        }
    }

    /// Returns the client address that failures are counted for. Clients without a known address share one.
    fn address(&self) -> IpAddr {
        self.origin.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl PasswordAttempts {
    pub(super) fn new(db: Db, clock: Clock, redis: Option<Redis>) -> Self {
        Self {
            db,
            throttle: LoginThrottle::new(clock.clone(), redis),
            clock,
        }
    }

    /// Rejects an attempt if there were too many failures. It is cheap, so it comes before the wait queue for hashing.
    pub(super) async fn check(&self, attempt: &PasswordAttempt<'_>) -> Result<(), Error> {
        match self
            .throttle
            .check(attempt.account, attempt.address())
            .await
        {
            Ok(()) => Ok(()),
            Err(throttled) => Err(self.reject(throttled, attempt).await),
        }
    }

    /// Begins an attempt, which counts against the limit from now on. Call it with a hashing permit held.
    pub(super) async fn begin(&self, attempt: &PasswordAttempt<'_>) -> Result<LoginAttempt, Error> {
        match self
            .throttle
            .begin(attempt.account, attempt.address())
            .await
        {
            Ok(attempt) => Ok(attempt),
            Err(LoginRejection::Throttled(throttled)) => Err(self.reject(throttled, attempt).await),
            Err(LoginRejection::TooManyInProgress) => Err(Error::Unavailable(
                "too many password attempts in progress for this account or client address".into(),
            )),
        }
    }

    /// Writes the first rejection to the audit log. Returns the error for the client.
    async fn reject(&self, throttled: Throttled, attempt: &PasswordAttempt<'_>) -> Error {
        let subject = throttled.subject;
        if throttled.is_first {
            let (now, target_account) = (self.clock.now(), attempt.target_account.clone());
            let origin = attempt.origin.clone();
            let recorded = self.db.write(move |conn| {
                let by = match target_account {
                    AttemptTarget::Caller(id) => By::User(id, &origin),
                    _ => By::Anonymous(&origin),
                };
                let target = match (subject, target_account) {
                    (Subject::Address(address), _) => Target::ClientAddress(address.to_string()),
                    (Subject::Account(_), AttemptTarget::Caller(id)) => Target::User(id),
                    (Subject::Account(_), AttemptTarget::Named(email)) => {
                        user::find_by_email(conn, &email)?
                            .map_or(Target::UnknownUser, |user| Target::User(user.id))
                    }
                    // The text is not recorded: a person may have typed the password instead of the address.
                    (Subject::Account(_), AttemptTarget::NoAddress) => Target::UnknownUser,
                };
                audit::record(conn, now, by, (Action::LoginThrottled, target), Map::new())?;
                Ok(())
            });
            if let Err(error) = recorded.await {
                self.throttle.mark_unaudited(subject);
                return error;
            }
        }
        throttled.into()
    }
}
