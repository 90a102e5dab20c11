//! Guesses at a password: no more than may fail, and on record once there were more.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Map;

use super::{
    audit::{self, By, Target},
    caller::Origin,
    login_attempts::{Attempt, LoginAttempts, NoAttempt},
    login_records::{AccountName, Subject, Throttled},
};
use crate::{
    core::{clock::Clock, error::Error, id::UserId, security::email::EmailKey},
    db::Db,
    models::{
        audit_log::Action,
        user::{self, User},
    },
    verification::limits::Store,
};

/// Limits guesses.
pub(super) struct Guesses {
    db: Db,
    clock: Clock,
    attempts: LoginAttempts,
}

/// At whose password, and from where.
pub(super) struct Guess<'a> {
    account: AccountName,
    whose: Whose,
    origin: &'a Origin,
}

/// Whose password it is.
#[derive(Clone)]
enum Whose {
    Caller(UserId),
    /// Of the account of this address, if there is one.
    Named(EmailKey),
    NoAddress,
}

impl<'a> Guess<'a> {
    /// At the password of the account of this address, if there is one.
    pub(super) fn at(email: EmailKey, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of(&email),
            whose: Whose::Named(email),
            origin,
        }
    }

    /// At that of something that is no address.
    pub(super) fn at_no_address(text: &str, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of_nobody(text),
            whose: Whose::NoAddress,
            origin,
        }
    }

    /// At that of whoever has logged in already.
    pub(super) fn by_caller(user: &User, origin: &'a Origin) -> Self {
        Self {
            account: AccountName::of(&user.email_key),
            whose: Whose::Caller(user.id),
            origin,
        }
    }

    /// Whose failures count together. Clients whose address is not known share theirs.
    fn address(&self) -> IpAddr {
        self.origin.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl Guesses {
    pub(super) fn new(db: Db, clock: Clock, store: Option<Store>) -> Self {
        Self {
            db,
            attempts: LoginAttempts::new(clock.clone(), store),
            clock,
        }
    }

    /// Refuses whoever has no guess left. It costs next to nothing, so it stands before the queue for
    /// hashing.
    pub(super) async fn check(&self, guess: &Guess<'_>) -> Result<(), Error> {
        match self.attempts.check(guess.account, guess.address()).await {
            Ok(()) => Ok(()),
            Err(throttled) => Err(self.tell_of(throttled, guess).await),
        }
    }

    /// Takes one of the guesses that may still fail, when it is its turn at hashing.
    pub(super) async fn begin(&self, guess: &Guess<'_>) -> Result<Attempt, Error> {
        match self.attempts.begin(guess.account, guess.address()).await {
            Ok(attempt) => Ok(attempt),
            Err(NoAttempt::Throttled(throttled)) => Err(self.tell_of(throttled, guess).await),
            Err(NoAttempt::AllUnderWay) => Err(Error::Unavailable(
                "as many logins under way as may still fail".into(),
            )),
        }
    }

    /// Records the first attempt that is refused, and answers what to say to whoever made it.
    async fn tell_of(&self, throttled: Throttled, guess: &Guess<'_>) -> Error {
        let subject = throttled.subject;
        if throttled.is_first {
            let (now, whose) = (self.clock.now(), guess.whose.clone());
            let origin = guess.origin.clone();
            let told = self.db.write(move |conn| {
                let by = match whose {
                    Whose::Caller(id) => By::User(id, &origin),
                    _ => By::Anybody(&origin),
                };
                let target = match (subject, whose) {
                    (Subject::Address(address), _) => Target::ClientAddress(address.to_string()),
                    (Subject::Account(_), Whose::Caller(id)) => Target::User(id),
                    (Subject::Account(_), Whose::Named(email)) => {
                        user::find_by_email(conn, &email)?
                            .map_or(Target::UnknownUser, |user| Target::User(user.id))
                    }
                    // What somebody typed instead of an address may be a password.
                    (Subject::Account(_), Whose::NoAddress) => Target::UnknownUser,
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
