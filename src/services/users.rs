//! User management for operators: list, change the role, deactivate, activate.

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

const LAST_ADMIN: &str =
    "This is the last admin who can log in. Give another user the role `admin` first.";

/// Use cases of user management.
pub struct Users {
    db: Db,
    coherence: Coherence,
    clock: Clock,
}

/// Fields of an account whose changes are written to the audit log.
#[derive(Serialize)]
struct AuditedFields<'a> {
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

    /// Returns a page of accounts that were created before the account `before`, newest first.
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

    /// Returns an error if the account does not exist or the caller may not change it.
    pub async fn require_changeable(&self, caller: &Caller, id: UserId) -> Result<(), Error> {
        let authority = caller.authority;
        let target = self
            .db
            .read(move |conn| user::find_with_authority(conn, id));
        let (_, target) = target.await?.ok_or(Error::NotFound)?;
        require_covered(authority, target)
    }

    /// Changes an account. The caller must have all permissions that the account has before and after the change.
    pub async fn change(
        &self,
        caller: &Caller,
        id: UserId,
        change: UserChange,
    ) -> Result<User, Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        let is_closing = change.only_deactivates();
        let change_user = move |conn: &mut Conn, key_changes: &mut Changes| {
            role::lock(conn)?;
            let authority = caller.authority_for(conn, Permission::UsersWrite)?;
            let user = user::find_for_update(conn, id)?.ok_or(Error::NotFound)?;
            require_covered(authority, role::authority(conn, &user.role)?)?;
            if let Some(name) = &change.role {
                let remedy = "must be the name of an existing role";
                let new_role =
                    role::find(conn, name)?.ok_or_else(|| Error::invalid_field("/role", remedy))?;
                require_covered(authority, new_role.authority())?;
            }
            let change = change.clone();
            apply(conn, key_changes, clock.now(), caller.by(), user, change)
        };
        if is_closing {
            self.coherence.write_revocation(change_user).await
        } else {
            self.coherence.write(change_user).await
        }
    }

    /// Gives an account the role `admin` or `member`, from the command line. Returns `None` if no account has the
    /// address.
    pub async fn set_admin(&self, email: EmailKey, admin: bool) -> Result<Option<User>, Error> {
        let clock = self.clock.clone();
        let role = if admin { role::ADMIN } else { role::MEMBER };
        let change_user = move |conn: &mut Conn, key_changes: &mut Changes| {
            role::lock(conn)?;
            let Some(user) = user::find_by_email(conn, &email)? else {
                return Ok(None);
            };
            let user = user::find_for_update(conn, user.id)?.ok_or(Error::NotFound)?;
            if !admin && user.role != role::ADMIN {
                return Ok(Some(user));
            }
            let change = UserChange {
                role: Some(role.to_owned()),
                active: None,
            };
            let now = clock.now();
            apply(conn, key_changes, now, By::CommandLine, user, change).map(Some)
        };
        if admin {
            self.coherence.write(change_user).await
        } else {
            self.coherence.write_revocation(change_user).await
        }
    }
}

/// Applies a change and writes its audit event. Rejects a change that leaves no active admin.
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
    let Some(changes) = audit::changes(&audited_fields(&before), &audited_fields(&after))? else {
        return Ok(before);
    };
    user::set_role_and_active(conn, key_changes, &after)?;
    if before.active && !after.active {
        // The tokens of the account stay invalid when it is activated again.
        user::end_sessions(conn, after.id)?;
    }
    let event = (Action::UserUpdated, Target::User(after.id));
    audit::record(conn, now, by, event, changes)?;
    Ok(after)
}

fn audited_fields(user: &User) -> AuditedFields<'_> {
    AuditedFields {
        role: &user.role,
        active: user.active,
    }
}
