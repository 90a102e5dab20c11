//! Role use cases: list, create, change, delete.

use super::{
    audit::{self, Target},
    caller::{Caller, require_covered},
};
use crate::{
    db::{Aborted, Conn, Db},
    domain::{
        clock::Clock,
        error::Error,
        id::RoleId,
        permission::{Authority, Permission, Permissions},
    },
    models::{
        audit_log::Action,
        role::{self, Role},
    },
};

const BUILT_IN: &str = "The role is built in and cannot be changed or deleted.";
const IN_USE: &str = "The role is in use. Give its users another role first.";

/// Use cases of roles.
pub struct Roles {
    db: Db,
    clock: Clock,
}

impl Roles {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Returns a page of roles that were created before the role `before`, newest first.
    pub async fn list(&self, before: Option<RoleId>, limit: i64) -> Result<Vec<Role>, Error> {
        self.db
            .read(move |conn| role::list(conn, before, limit))
            .await
    }

    /// Returns an error if the role exists and the caller may not change it.
    pub async fn require_changeable(&self, caller: &Caller, name: String) -> Result<(), Error> {
        let authority = caller.authority;
        let existing = self.db.read(move |conn| role::find(conn, &name)).await?;
        existing.map_or(Ok(()), |role| require_covered(authority, role.authority()))
    }

    /// Creates a role or changes its permissions. Returns the role, and true if it is new.
    pub async fn put(
        &self,
        caller: &Caller,
        name: String,
        permissions: Permissions,
    ) -> Result<(Role, bool), Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        self.db
            .write(move |conn| {
                let (authority, existing) = find_changeable(conn, &caller, &name)?;
                let given = Authority {
                    is_admin: false,
                    permissions,
                };
                require_covered(authority, given)?;
                let now = clock.now();
                let (role, action, details) = match existing {
                    None => {
                        let role = Role {
                            id: RoleId::generate(now),
                            name,
                            permissions,
                            built_in: false,
                        };
                        role::insert(conn, &role)?;
                        let details = audit::details("permissions", names(permissions));
                        (role, Action::RoleCreated, Some(details))
                    }
                    Some(before) => {
                        let after = Role {
                            permissions,
                            ..before.clone()
                        };
                        role::set_permissions(conn, after.id, permissions)?;
                        let role_details =
                            |role: &Role| audit::details("permissions", names(role.permissions));
                        let changes =
                            audit::changes(&role_details(&before), &role_details(&after))?;
                        (after, Action::RoleUpdated, changes)
                    }
                };
                if let Some(details) = details {
                    let event = (action, Target::Role(role.name.clone()));
                    audit::record(conn, now, caller.by(), event, details)?;
                }
                Ok((role, action == Action::RoleCreated))
            })
            .await
    }

    /// Deletes a role without users.
    pub async fn delete(&self, caller: &Caller, name: String) -> Result<(), Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        self.db
            .write(move |conn| {
                let (_, existing) = find_changeable(conn, &caller, &name)?;
                let role = existing.ok_or(Error::NotFound)?;
                if role::is_in_use(conn, &role.name)? {
                    return Err(Error::Conflict(IN_USE.into()).into());
                }
                role::delete(conn, role.id)?;
                let details = audit::details("permissions", names(role.permissions));
                let event = (Action::RoleDeleted, Target::Role(role.name));
                audit::record(conn, clock.now(), caller.by(), event, details)?;
                Ok(())
            })
            .await
    }
}

/// Returns the caller's permissions and the role with this name, or an error if the caller may not change the role.
/// Roles stay locked until the transaction ends.
fn find_changeable(
    conn: &mut Conn,
    caller: &Caller,
    name: &str,
) -> Result<(Authority, Option<Role>), Aborted> {
    role::lock(conn)?;
    let authority = caller.authority_for(conn, Permission::RolesWrite)?;
    let existing = role::find(conn, name)?;
    if let Some(role) = &existing {
        require_covered(authority, role.authority())?;
        if role.built_in {
            return Err(Error::Conflict(BUILT_IN.into()).into());
        }
    }
    Ok((authority, existing))
}

fn names(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(Permission::as_str).collect()
}
