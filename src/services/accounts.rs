//! Account use cases: sign up, log in, change the password, end all sessions.

use std::net::{IpAddr, Ipv4Addr};

use secrecy::SecretString;
use serde_json::Map;

use super::{
    audit::{self, By, Target},
    caller::{Caller, Origin},
    password_attempts::{PasswordAttempt, PasswordAttempts},
};
use crate::{
    auth::{
        password::Password,
        password_hasher::{HashPermit, PasswordHash, PasswordHasher},
        token::{Session, TokenAuthority},
    },
    config::Signup,
    db::{Conn, Db},
    domain::{
        clock::{Clock, UtcTime},
        email::{Email, EmailKey},
        error::Error,
        id::UserId,
        permission::Authority,
    },
    models::{
        audit_log::Action,
        role::MEMBER,
        user::{self, User},
    },
    throttle::login::LoginAttempt,
    verification::limits::Limits,
    wait_queue::WaitQueueUsage,
};

/// Use cases of accounts for their owners.
pub struct Accounts {
    db: Db,
    clock: Clock,
    signup: Signup,
    hasher: PasswordHasher,
    tokens: TokenAuthority,
    password_attempts: PasswordAttempts,
    limits: Limits,
}

/// User token and its lifetime.
pub struct IssuedToken {
    pub token: SecretString,
    pub expires_in_seconds: i64,
}

impl Accounts {
    pub fn new(
        db: Db,
        clock: Clock,
        signup: Signup,
        hasher: PasswordHasher,
        tokens: TokenAuthority,
        limits: Limits,
    ) -> Self {
        Self {
            signup,
            hasher,
            tokens,
            password_attempts: PasswordAttempts::new(
                db.clone(),
                clock.clone(),
                limits.redis().cloned(),
            ),
            limits,
            db,
            clock,
        }
    }

    /// Returns the maximum number of threads that hash passwords.
    pub fn hashing_threads(&self) -> usize {
        self.hasher.threads()
    }

    /// Returns the number of requests that hash passwords or wait for it.
    pub fn hashing(&self) -> WaitQueueUsage {
        self.hasher.usage()
    }

    /// Returns an error if sign-up is closed.
    pub fn require_signup_open(&self) -> Result<(), Error> {
        match self.signup {
            Signup::Open => Ok(()),
            Signup::Closed => Err(Error::PermissionDenied(
                "Sign-up is closed. Ask the operator of this service for an account.".into(),
            )),
        }
    }

    /// Creates an account.
    pub async fn sign_up(
        &self,
        email: Email,
        password: Password,
        origin: Origin,
    ) -> Result<User, Error> {
        self.require_signup_open()?;
        // Clients without a known address share one.
        let address = origin.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.limits.charge_signup(address).await?;
        // The address is looked up with the permit held: of many concurrent sign-ups with one address, only the first
        // pays for a hash. The unique index decides in the end.
        let permit = self.hasher.permit().await?;
        if self.find_by_email(email.key().clone()).await?.is_some() {
            return Err(Error::EmailTaken);
        }
        let hash = permit.hash(password).await?;
        let now = self.clock.now();
        let user = User {
            id: UserId::generate(now),
            email: email.as_str().to_owned(),
            email_key: email.into_key(),
            password_hash: hash,
            role: MEMBER.to_owned(),
            session_version: 1,
            created_at: now,
            active: true,
        };
        self.db
            .write(move |conn| {
                if !user::insert(conn, &user)? {
                    return Err(Error::EmailTaken.into());
                }
                record(conn, now, &user, &origin, Action::UserSignedUp)?;
                Ok(user)
            })
            .await
    }

    /// Exchanges a password for a token. An unknown address, a deactivated account and a wrong password cannot be
    /// distinguished, neither by the response nor by its time.
    pub async fn log_in(
        &self,
        email: &str,
        password: Password,
        origin: &Origin,
    ) -> Result<IssuedToken, Error> {
        // A text that is no address gets the same response as an address without an account.
        let key = Email::parse(email).ok().map(Email::into_key);
        let password_attempt = match &key {
            Some(key) => PasswordAttempt::for_email(key.clone(), origin),
            None => PasswordAttempt::for_other_text(email, origin),
        };
        self.password_attempts.check(&password_attempt).await?;
        // Before the permit is taken: a database that does not respond must not block the wait queue.
        let user = match key {
            Some(key) => self.find_by_email(key).await?.filter(|user| user.active),
            None => None,
        };
        let permit = self.hasher.permit().await?;
        let attempt = self.password_attempts.begin(&password_attempt).await?;
        let hash = match &user {
            Some(user) => user.password_hash.clone(),
            None => self.hasher.decoy(),
        };
        let password = verify_password(&permit, attempt, password, hash).await?;
        let user = user.ok_or(Error::InvalidCredentials)?;
        if self.hasher.is_outdated(&user.password_hash) {
            self.renew_hash(&permit, &user, password).await?;
        }
        let session = Session {
            user_id: user.id,
            version: user.session_version,
        };
        Ok(IssuedToken {
            token: self.tokens.issue(session, self.clock.now())?,
            expires_in_seconds: self.tokens.ttl_seconds(),
        })
    }

    /// Returns the account that a token identifies and the permissions of its role, if the session has not ended.
    pub async fn authenticate(&self, token: &str) -> Result<(User, Authority), Error> {
        let session = self.tokens.check(token, self.clock.now())?;
        self.db
            .read(move |conn| user::find_with_authority(conn, session.user_id))
            .await?
            .filter(|(user, _)| user.active && user.session_version == session.version)
            .ok_or(Error::InvalidToken)
    }

    /// Changes the password and ends all sessions.
    pub async fn change_password(
        &self,
        caller: Caller,
        current: Password,
        new: Password,
    ) -> Result<(), Error> {
        let Caller { user, origin, .. } = caller;
        // A stolen token must not allow more password attempts than a login does.
        let password_attempt = PasswordAttempt::for_caller(&user, &origin);
        self.password_attempts.check(&password_attempt).await?;
        let permit = self.hasher.permit().await?;
        let attempt = self.password_attempts.begin(&password_attempt).await?;
        verify_password(&permit, attempt, current, user.password_hash.clone()).await?;
        let hash = permit.hash(new).await?;
        let now = self.clock.now();
        self.db
            .write(move |conn| {
                if !user::set_password(conn, user.id, user.session_version, &hash)? {
                    return Err(Error::InvalidToken.into());
                }
                record(conn, now, &user, &origin, Action::PasswordChanged)?;
                Ok(())
            })
            .await
    }

    /// Ends all sessions.
    pub async fn log_out(&self, caller: Caller) -> Result<(), Error> {
        let now = self.clock.now();
        self.db
            .write_revocation(move |conn| {
                caller.authority_now(conn)?;
                user::end_sessions(conn, caller.user.id)?;
                record(conn, now, &caller.user, &caller.origin, Action::LoggedOut)?;
                Ok(())
            })
            .await
    }

    async fn renew_hash(
        &self,
        permit: &HashPermit,
        user: &User,
        password: Password,
    ) -> Result<(), Error> {
        let renewed = permit.hash(password).await?;
        let (id, old) = (user.id, user.password_hash.clone());
        self.db
            .write(move |conn| Ok(user::renew_hash(conn, id, &old, &renewed)?))
            .await
            .map(drop)
    }

    async fn find_by_email(&self, email: EmailKey) -> Result<Option<User>, Error> {
        self.db
            .read(move |conn| user::find_by_email(conn, &email))
            .await
    }
}

/// Writes an audit event about an account by its owner.
fn record(
    conn: &mut Conn,
    now: UtcTime,
    user: &User,
    origin: &Origin,
    action: Action,
) -> diesel::QueryResult<()> {
    let event = (action, Target::User(user.id));
    audit::record(conn, now, By::User(user.id, origin), event, Map::new())
}

/// Verifies a password and ends the attempt accordingly. Returns the password if it is right.
async fn verify_password(
    permit: &HashPermit,
    attempt: LoginAttempt,
    password: Password,
    hash: PasswordHash,
) -> Result<Password, Error> {
    match permit.verify(password, hash).await {
        Ok(None) => {
            attempt.fail().await;
            Err(Error::InvalidCredentials)
        }
        Ok(Some(password)) => {
            attempt.forgive().await;
            Ok(password)
        }
        Err(error) => {
            attempt.forgive().await;
            Err(error)
        }
    }
}
