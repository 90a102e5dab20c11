//! Table `roles`: named sets of permissions. `admin` and `member` are built in.

use diesel::prelude::*;

use crate::{
    db::{
        Conn, for_update,
        schema::{roles, users},
    },
    domain::{
        id::{RoleId, UserId},
        permission::{Authority, Permissions},
    },
};

/// Name of the role that has every permission.
pub const ADMIN: &str = "admin";
/// Name of the role of new accounts. It allows access to the user's own resources only.
pub const MEMBER: &str = "member";

/// Row of a role.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
#[diesel(table_name = roles)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub permissions: Permissions,
    pub built_in: bool,
}

impl Role {
    /// Returns what the role permits.
    pub fn authority(&self) -> Authority {
        Authority {
            is_admin: self.name == ADMIN,
            permissions: self.permissions,
        }
    }

    /// Returns what a role permits: nothing if there is no such role.
    pub(super) fn authority_of(role: Option<Self>) -> Authority {
        role.map(|role| role.authority()).unwrap_or_default()
    }
}

/// Locks all changes of roles, and of the roles of users, until the transaction ends. The rules about roles concern
/// several rows, so locking single rows is not enough.
pub fn lock(conn: &mut Conn) -> QueryResult<()> {
    let locked: QueryResult<RoleId> = for_update!(
        conn,
        roles::table.filter(roles::name.eq(ADMIN)).select(roles::id),
        first
    );
    locked.map(drop)
}

/// Returns the role with this name.
pub fn find(conn: &mut Conn, name: &str) -> QueryResult<Option<Role>> {
    roles::table
        .filter(roles::name.eq(name))
        .first(conn)
        .optional()
}

/// Returns what the role with this name permits: nothing if there is no such role.
pub fn authority(conn: &mut Conn, name: &str) -> QueryResult<Authority> {
    find(conn, name).map(Role::authority_of)
}

/// Returns at most `limit` roles, newest first, that are older than `before`.
pub fn list(conn: &mut Conn, before: Option<RoleId>, limit: i64) -> QueryResult<Vec<Role>> {
    let mut list = roles::table
        .order(roles::id.desc())
        .limit(limit)
        .into_boxed();
    if let Some(before) = before {
        list = list.filter(roles::id.lt(before));
    }
    list.load(conn)
}

/// Inserts a role. Its name must not be in use.
pub fn insert(conn: &mut Conn, role: &Role) -> QueryResult<usize> {
    diesel::insert_into(roles::table)
        .values((
            roles::id.eq(role.id),
            roles::name.eq(&role.name),
            roles::permissions.eq(role.permissions.to_stored()),
            roles::built_in.eq(role.built_in),
        ))
        .execute(conn)
}

/// Replaces the permissions of a role.
pub fn set_permissions(
    conn: &mut Conn,
    id: RoleId,
    permissions: Permissions,
) -> QueryResult<usize> {
    diesel::update(roles::table.find(id))
        .set(roles::permissions.eq(permissions.to_stored()))
        .execute(conn)
}

/// Deletes a role.
pub fn delete(conn: &mut Conn, id: RoleId) -> QueryResult<usize> {
    diesel::delete(roles::table.find(id)).execute(conn)
}

/// Returns whether any user has the role with this name.
pub fn is_in_use(conn: &mut Conn, name: &str) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(
        users::table.filter(users::role.eq(name)),
    ))
    .get_result(conn)
}

/// Returns whether a user other than this one is an active admin.
pub fn has_another_admin(conn: &mut Conn, user: UserId) -> QueryResult<bool> {
    let others = users::table
        .filter(users::role.eq(ADMIN))
        .filter(users::active)
        .filter(users::id.ne(user));
    diesel::select(diesel::dsl::exists(others)).get_result(conn)
}
