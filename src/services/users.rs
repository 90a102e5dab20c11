//! Accounts as operators see them: list, give a role, deactivate, activate.

use serde::Serialize;

use super::{
    audit::{self, By, Target},
    caller::{Caller, require_covered},
};
use crate::{
    db::{Aborted, Conn, Db},
    domain::{
        clock::{Clock, UtcTime},
        email::EmailKey,
        error::Error,
        id::UserId,
        permission::Permission,
    },
    models::{
        audit_log::Action,
        key_change::Changes,
        role,
        user::{self, User, UserChange, UserFilter},
    },
    verification::coherence::Coherence,
};

const LAST_ADMIN: &str = "This is the last admin who can log in. Make another one first.";

/// What can be done with accounts by those who may.
pub struct Users {
    db: Db,
    coherence: Coherence,
    clock: Clock,
}

/// What the audit log tells of an account.
#[derive(Serialize)]
struct Standing<'a> {
    role: &'a str,
    active: bool,
}

impl Users {
    pub fn new(db: Db, coherence: Coherence, clock: Clock) -> Self {
        Self {
            db,
            coherence,
            clock,
        }
    }

    /// A page of accounts, newest first: those made before the account `before`.
    pub async fn list(
        &self,
        filter: UserFilter,
        before: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<User>, Error> {
        self.db
            .read(move |conn| user::list(conn, &filter, before, limit))
            .await
    }

    /// Refuses if there is no such account, or one that the caller may not change.
    pub async fn require_changeable(&self, caller: &Caller, id: UserId) -> Result<(), Error> {
        let authority = caller.authority;
        let theirs = self
            .db
            .read(move |conn| user::find_with_authority(conn, id));
        let (_, theirs) = theirs.await?.ok_or(Error::NotFound)?;
        require_covered(authority, theirs)
    }

    /// Changes an account, as an operator who may do all that the account may, before and after.
    pub async fn change(
        &self,
        caller: &Caller,
        id: UserId,
        change: UserChange,
    ) -> Result<User, Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        let closes = change.only_deactivates();
        let make = move |conn: &mut Conn, key_changes: &mut Changes| {
            role::hold(conn)?;
            let authority = caller.authority_for(conn, Permission::UsersWrite)?;
            let user = user::find_for_update(conn, id)?.ok_or(Error::NotFound)?;
            require_covered(authority, role::authority(conn, &user.role)?)?;
            if let Some(name) = &change.role {
                let remedy = "must be the name of a role";
                let given =
                    role::find(conn, name)?.ok_or_else(|| Error::invalid_field("/role", remedy))?;
                require_covered(authority, given.authority())?;
            }
            let change = change.clone();
            apply(conn, key_changes, clock.now(), caller.by(), user, change)
        };
        match closes {
            true => self.coherence.write_closing(make).await,
            false => self.coherence.write(make).await,
        }
    }

    /// Gives an account the role `admin`, or `member` again, from the command line. `None` if no account
    /// has the address.
    pub async fn set_admin(&self, email: EmailKey, admin: bool) -> Result<Option<User>, Error> {
        let clock = self.clock.clone();
        let role = if admin { role::ADMIN } else { role::MEMBER };
        let make = move |conn: &mut Conn, key_changes: &mut Changes| {
            role::hold(conn)?;
            let Some(found) = user::find_by_email(conn, &email)? else {
                return Ok(None);
            };
            let found = user::find_for_update(conn, found.id)?.ok_or(Error::NotFound)?;
            if !admin && found.role != role::ADMIN {
                return Ok(Some(found));
            }
            let change = UserChange {
                role: Some(role.to_owned()),
                active: None,
            };
            let now = clock.now();
            apply(conn, key_changes, now, By::CommandLine, found, change).map(Some)
        };
        match admin {
            true => self.coherence.write(make).await,
            false => self.coherence.write_closing(make).await,
        }
    }
}

/// Makes a change, whoever asked for it, unless it would leave nobody to undo it.
fn apply(
    conn: &mut Conn,
    key_changes: &mut Changes,
    now: UtcTime,
    by: By<'_>,
    before: User,
    change: UserChange,
) -> Result<User, Aborted> {
    let mut after = before.clone();
    after.role = change.role.unwrap_or(after.role);
    after.active = change.active.unwrap_or(after.active);
    let loses_admin = before.is_active_admin() && !after.is_active_admin();
    if loses_admin && !role::has_another_admin(conn, before.id)? {
        return Err(Error::Conflict(LAST_ADMIN.into()).into());
    }
    let Some(changes) = audit::changes(&standing(&before), &standing(&after))? else {
        return Ok(before);
    };
    user::set_standing(conn, key_changes, &after)?;
    if before.active && !after.active {
        // Its tokens stay dead when it is activated again.
        user::end_sessions(conn, after.id)?;
    }
    let event = (Action::UserUpdated, Target::User(after.id));
    audit::record(conn, now, by, event, changes)?;
    Ok(after)
}

fn standing(user: &User) -> Standing<'_> {
    Standing {
        role: &user.role,
        active: user.active,
    }
}
