//! `roles`: named sets of permissions. `admin` and `member` are built in.

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

/// May everything.
pub const ADMIN: &str = "admin";
/// The role of whoever signs up: nothing beyond their own things.
pub const MEMBER: &str = "member";

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
#[diesel(table_name = roles)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub permissions: Permissions,
    pub built_in: bool,
}

impl Role {
    /// What whoever has it may do.
    pub fn authority(&self) -> Authority {
        Authority {
            is_admin: self.name == ADMIN,
            permissions: self.permissions,
        }
    }

    /// The same of a role that may not be there: then nothing.
    pub(super) fn authority_of(role: Option<Self>) -> Authority {
        role.map(|role| role.authority()).unwrap_or_default()
    }
}

/// Until the transaction ends nobody else changes roles, or who has them: the rules about them look at
/// several rows.
pub fn hold(conn: &mut Conn) -> QueryResult<()> {
    let held: QueryResult<RoleId> = for_update!(
        conn,
        roles::table.filter(roles::name.eq(ADMIN)).select(roles::id),
        first
    );
    held.map(drop)
}

/// The role of this name.
pub fn find(conn: &mut Conn, name: &str) -> QueryResult<Option<Role>> {
    roles::table
        .filter(roles::name.eq(name))
        .first(conn)
        .optional()
}

/// What the role of this name lets its holders do: nothing if there is none.
pub fn authority(conn: &mut Conn, name: &str) -> QueryResult<Authority> {
    find(conn, name).map(Role::authority_of)
}

/// Roles, newest first, at most `limit`, those made before `before`.
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

/// Adds a role, under a name that is free.
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

/// Gives a role other permissions.
pub fn set_permissions(
    conn: &mut Conn,
    id: RoleId,
    permissions: Permissions,
) -> QueryResult<usize> {
    diesel::update(roles::table.find(id))
        .set(roles::permissions.eq(permissions.to_stored()))
        .execute(conn)
}

/// Removes a role.
pub fn delete(conn: &mut Conn, id: RoleId) -> QueryResult<usize> {
    diesel::delete(roles::table.find(id)).execute(conn)
}

/// Whether anybody has the role of this name.
pub fn is_in_use(conn: &mut Conn, name: &str) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(
        users::table.filter(users::role.eq(name)),
    ))
    .get_result(conn)
}

/// Whether anybody besides this user is an admin who can log in.
pub fn has_another_admin(conn: &mut Conn, user: UserId) -> QueryResult<bool> {
    let others = users::table
        .filter(users::role.eq(ADMIN))
        .filter(users::active)
        .filter(users::id.ne(user));
    diesel::select(diesel::dsl::exists(others)).get_result(conn)
}
