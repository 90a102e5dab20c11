//! PasswordAttempts at a password: no more than may fail, and on record once there were more.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Map;

use crate::{
    db::Db,
    domain::{clock::Clock, email::EmailKey, error::Error, id::UserId},
    models::{
        audit_log::Action,
        user::{self, User},
    },
    redis::Redis,
};
use crate::{
    services::{
        audit::{self, By, Target},
        caller::Origin,
    },
    throttle::{
        login::{LoginAttempt, LoginRejection, LoginThrottle},
        login_records::{AccountName, Subject, Throttled},
    },
};

/// Limits guesses.
pub(super) struct PasswordAttempts {
    db: Db,
    clock: Clock,
    attempts: LoginThrottle,
}

/// At target_account password, and from where.
pub(super) struct PasswordAttempt<'a> {
    account: AccountName,
    target_account: AttemptTarget,
    origin: &'a Origin,
}

/// AttemptTarget password it is.
#[derive(Clone)]
enum AttemptTarget {
    Caller(UserId),
    /// Of the account of this address, if there is one.
    Named(EmailKey),
    NoAddress,
}

impl<'a> PasswordAttempt<'a> {
    /// At the password of the account of this address, if there is one.
    pub(super) fn at(email: EmailKey, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of(&email),
            target_account: AttemptTarget::Named(email),
            origin,
        }
    }

    /// At that of something that is no address.
    pub(super) fn at_no_address(text: &str, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of_nobody(text),
            target_account: AttemptTarget::NoAddress,
            origin,
        }
    }

    /// At that of whoever has logged in already.
    pub(super) fn by_caller(user: &User, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of(&user.email_key),
            target_account: AttemptTarget::Caller(user.id),
            origin,
        }
    }

    /// AttemptTarget failures count together. Clients target_account address is not known share theirs.
    fn address(&self) -> IpAddr {
        self.origin.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl PasswordAttempts {
    pub(super) fn new(db: Db, clock: Clock, redis: Option<Redis>) -> Self {
        Self {
            db,
            attempts: LoginThrottle::new(clock.clone(), redis),
            clock,
        }
    }

    /// Refuses whoever has no guess left. It costs next to nothing, so it stands before the queue for
    /// hashing.
    pub(super) async fn check(&self, guess: &PasswordAttempt<'_>) -> Result<(), Error> {
        match self.attempts.check(guess.account, guess.address()).await {
            Ok(()) => Ok(()),
            Err(throttled) => Err(self.tell_of(throttled, guess).await),
        }
    }

    /// Takes one of the guesses that may still fail, when it is its turn at hashing.
    pub(super) async fn begin(&self, guess: &PasswordAttempt<'_>) -> Result<LoginAttempt, Error> {
        match self.attempts.begin(guess.account, guess.address()).await {
            Ok(attempt) => Ok(attempt),
            Err(LoginRejection::Throttled(throttled)) => Err(self.tell_of(throttled, guess).await),
            Err(LoginRejection::TooManyInProgress) => Err(Error::Unavailable(
                "as many logins under way as may still fail".into(),
            )),
        }
    }

    /// Records the first attempt that is refused, and answers what to say to whoever made it.
    async fn tell_of(&self, throttled: Throttled, guess: &PasswordAttempt<'_>) -> Error {
        let subject = throttled.subject;
        if throttled.is_first {
            let (now, target_account) = (self.clock.now(), guess.target_account.clone());
            let origin = guess.origin.clone();
            let told = self.db.write(move |conn| {
                let by = match target_account {
                    AttemptTarget::Caller(id) => By::User(id, &origin),
                    _ => By::Anybody(&origin),
                };
                let target = match (subject, target_account) {
                    (Subject::Address(address), _) => Target::ClientAddress(address.to_string()),
                    (Subject::Account(_), AttemptTarget::Caller(id)) => Target::User(id),
                    (Subject::Account(_), AttemptTarget::Named(email)) => {
                        user::find_by_email(conn, &email)?
                            .map_or(Target::UnknownUser, |user| Target::User(user.id))
                    }
                    // What somebody typed instead of an address may be a password.
                    (Subject::Account(_), AttemptTarget::NoAddress) => Target::UnknownUser,
                };
                audit::record(conn, now, by, (Action::LoginThrottled, target), Map::new())?;
                Ok(())
            });
            if let Err(error) = told.await {
                self.attempts.untold(subject);
                return error;
            }
        }
        throttled.into()
    }
}
