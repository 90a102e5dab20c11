//! Accounts: sign up, log in, change the password, end every session.

use std::net::{IpAddr, Ipv4Addr};

use secrecy::SecretString;
use serde_json::Map;

use crate::{
    auth::{
        password::Password,
        password_hasher::{PasswordHash, PasswordHasher, Turn},
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
    verification::limits::Limits,
    wait_queue::WaitQueueUse,
};
use crate::{
    services::{
        audit::{self, By, Target},
        caller::{Caller, Origin},
        password_attempts::{PasswordAttempt, PasswordAttempts},
    },
    throttle::login::LoginAttempt,
};

/// What can be done with accounts.
pub struct Accounts {
    db: Db,
    clock: Clock,
    signup: Signup,
    hasher: PasswordHasher,
    tokens: TokenAuthority,
    guesses: PasswordAttempts,
    limits: Limits,
}

/// A token, and how long it lasts.
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
            guesses: PasswordAttempts::new(db.clone(), clock.clone(), limits.redis().cloned()),
            limits,
            db,
            clock,
        }
    }

    /// How many threads hash passwords at the most.
    pub fn hashing_threads(&self) -> usize {
        self.hasher.threads()
    }

    /// How many hash passwords, and wait for it.
    pub fn hashing(&self) -> WaitQueueUse {
        self.hasher.queue()
    }

    /// Refuses where nobody may sign up.
    pub fn require_signup_open(&self) -> Result<(), Error> {
        match self.signup {
            Signup::Open => Ok(()),
            Signup::Closed => Err(Error::PermissionDenied(
                "Signing up is closed here. Ask whoever runs this service for an account.".into(),
            )),
        }
    }

    /// Makes an account.
    pub async fn sign_up(
        &self,
        email: Email,
        password: Password,
        origin: Origin,
    ) -> Result<User, Error> {
        self.require_signup_open()?;
        // Clients whose address is not known share theirs.
        let address = origin.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.limits.charge_signup(address).await?;
        // Looked up when it is our turn, so that of many at once for one address only the first pays
        // for a hash. The unique index has the last word.
        let turn = self.hasher.turn().await?;
        if self.find_by_email(email.key().clone()).await?.is_some() {
            return Err(Error::EmailTaken);
        }
        let hash = turn.hash(password).await?;
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

    /// Exchanges a password for a token. An unknown address, a deactivated account and a wrong password
    /// cannot be told apart, by the answer or by its time.
    pub async fn log_in(
        &self,
        email: &str,
        password: Password,
        origin: &Origin,
    ) -> Result<IssuedToken, Error> {
        // What is no address is answered like one that nobody has.
        let key = Email::parse(email).ok().map(Email::into_key);
        let guess = match &key {
            Some(key) => PasswordAttempt::at(key.clone(), origin),
            None => PasswordAttempt::at_no_address(email, origin),
        };
        self.guesses.check(&guess).await?;
        // Before our turn: while the database does not answer, nobody shall hold up the queue.
        let user = match key {
            Some(key) => self.find_by_email(key).await?.filter(|user| user.active),
            None => None,
        };
        let turn = self.hasher.turn().await?;
        let attempt = self.guesses.begin(&guess).await?;
        let hash = match &user {
            Some(user) => user.password_hash.clone(),
            None => self.hasher.decoy(),
        };
        let password = prove(&turn, attempt, password, hash).await?;
        let user = user.ok_or(Error::InvalidCredentials)?;
        if self.hasher.is_outdated(&user.password_hash) {
            self.renew_hash(&turn, &user, password).await?;
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

    /// The account that a token stands for, if its session still lasts, and what its role allows.
    pub async fn authenticate(&self, token: &str) -> Result<(User, Authority), Error> {
        let session = self.tokens.check(token, self.clock.now())?;
        self.db
            .read(move |conn| user::find_with_authority(conn, session.user_id))
            .await?
            .filter(|(user, _)| user.active && user.session_version == session.version)
            .ok_or(Error::InvalidToken)
    }

    /// Sets another password, which ends every session.
    pub async fn change_password(
        &self,
        caller: Caller,
        current: Password,
        new: Password,
    ) -> Result<(), Error> {
        let Caller { user, origin, .. } = caller;
        // A stolen token must not be a way round the limit on guessing the password.
        let guess = PasswordAttempt::by_caller(&user, &origin);
        self.guesses.check(&guess).await?;
        let turn = self.hasher.turn().await?;
        let attempt = self.guesses.begin(&guess).await?;
        prove(&turn, attempt, current, user.password_hash.clone()).await?;
        let hash = turn.hash(new).await?;
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

    /// Ends every session.
    pub async fn log_out(&self, caller: Caller) -> Result<(), Error> {
        let now = self.clock.now();
        self.db
            .write_closing(move |conn| {
                caller.authority_now(conn)?;
                user::end_sessions(conn, caller.user.id)?;
                record(conn, now, &caller.user, &caller.origin, Action::LoggedOut)?;
                Ok(())
            })
            .await
    }

    async fn renew_hash(&self, turn: &Turn, user: &User, password: Password) -> Result<(), Error> {
        let renewed = turn.hash(password).await?;
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

/// Records what an account's owner did to it.
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

/// Checks a password, as one of the attempts that are counted, and gives it back if it is right.
async fn prove(
    turn: &Turn,
    attempt: LoginAttempt,
    password: Password,
    hash: PasswordHash,
) -> Result<Password, Error> {
    match turn.verify(password, hash).await {
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
