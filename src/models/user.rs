//! Table `users`: accounts.

use diesel::prelude::*;

use super::{
    contains,
    key_change::Changes,
    role::{ADMIN, Role},
};
use crate::{
    auth::password_hasher::PasswordHash,
    db::{
        Conn, InsertResult as _, for_update,
        schema::{roles, users},
    },
    domain::{clock::UtcTime, email::EmailKey, id::UserId, permission::Authority},
};

/// Row of an account.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = users)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub email_key: EmailKey,
    pub password_hash: PasswordHash,
    pub role: String,
    pub session_version: i64,
    pub created_at: UtcTime,
    /// False if the account is deactivated. Its tokens and keys are then rejected.
    pub active: bool,
}

impl User {
    /// Returns whether this is an admin who can log in.
    pub fn is_active_admin(&self) -> bool {
        self.active && self.role == ADMIN
    }
}

/// Inserts an account. Returns `false` if the email address already has one.
pub fn insert(conn: &mut Conn, user: &User) -> QueryResult<bool> {
    diesel::insert_into(users::table)
        .values(user)
        .execute(conn)
        .unless_taken()
        .map(|inserted| inserted.is_some())
}

/// Returns the account with this id.
pub fn find(conn: &mut Conn, id: UserId) -> QueryResult<Option<User>> {
    users::table.find(id).first(conn).optional()
}

/// Returns the account with this id and what its role permits: nothing if there is no such role.
pub fn find_with_authority(conn: &mut Conn, id: UserId) -> QueryResult<Option<(User, Authority)>> {
    let found: Option<(User, Option<Role>)> = users::table
        .left_join(roles::table.on(roles::name.eq(users::role)))
        .filter(users::id.eq(id))
        .select((users::all_columns, roles::all_columns.nullable()))
        .first(conn)
        .optional()?;
    Ok(found.map(|(user, role)| (user, Role::authority_of(role))))
}

/// Returns the account with this id and locks its row until the transaction ends.
pub fn find_for_update(conn: &mut Conn, id: UserId) -> QueryResult<Option<User>> {
    let found: QueryResult<User> = for_update!(conn, users::table.find(id), first);
    found.optional()
}

/// Change of an account by an operator.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    pub role: Option<String>,
    pub active: Option<bool>,
}

impl UserChange {
    /// Returns whether the change deactivates the account and does nothing else.
    pub fn only_deactivates(&self) -> bool {
        self.role.is_none() && self.active == Some(false)
    }
}

/// Filter of a list of accounts.
#[derive(Debug, Default)]
pub struct UserFilter {
    pub role: Option<String>,
    pub active: Option<bool>,
    /// Case-folded part of the email address.
    pub email_part: Option<String>,
}

/// Returns at most `limit` accounts, newest first, that are older than `before`.
pub fn list(
    conn: &mut Conn,
    filter: &UserFilter,
    before: Option<UserId>,
    limit: i64,
) -> QueryResult<Vec<User>> {
    let mut list = users::table
        .order(users::id.desc())
        .limit(limit)
        .into_boxed();
    if let Some(before) = before {
        list = list.filter(users::id.lt(before));
    }
    if let Some(role) = &filter.role {
        list = list.filter(users::role.eq(role));
    }
    if let Some(active) = filter.active {
        list = list.filter(users::active.eq(active));
    }
    if let Some(part) = &filter.email_part {
        list = list.filter(users::email_key.like(contains(part)).escape('\\'));
    }
    list.load(conn)
}

/// Stores the role of an account and whether it is active.
pub fn set_role_and_active(conn: &mut Conn, changes: &mut Changes, user: &User) -> QueryResult<()> {
    diesel::update(users::table.find(user.id))
        .set((users::role.eq(&user.role), users::active.eq(user.active)))
        .execute(conn)?;
    changes.add_user(user.id);
    Ok(())
}

/// Returns the account with this email address.
pub fn find_by_email(conn: &mut Conn, email: &EmailKey) -> QueryResult<Option<User>> {
    users::table
        .filter(users::email_key.eq(email))
        .first(conn)
        .optional()
}

/// Sets the password and invalidates every access token. Returns `false`, and changes nothing, if tokens were
/// invalidated since `version` was read.
pub fn set_password(
    conn: &mut Conn,
    id: UserId,
    version: i64,
    hash: &PasswordHash,
) -> QueryResult<bool> {
    diesel::update(users::table)
        .filter(users::id.eq(id).and(users::session_version.eq(version)))
        .set((
            users::password_hash.eq(hash),
            users::session_version.eq(users::session_version + 1),
        ))
        .execute(conn)
        .map(|updated| updated == 1)
}

/// Replaces the hash by another one of the same password, unless the password was changed meanwhile.
pub fn renew_hash(
    conn: &mut Conn,
    id: UserId,
    old: &PasswordHash,
    renewed: &PasswordHash,
) -> QueryResult<usize> {
    diesel::update(users::table)
        .filter(users::id.eq(id).and(users::password_hash.eq(old)))
        .set(users::password_hash.eq(renewed))
        .execute(conn)
}

/// Invalidates every access token of an account.
pub fn end_sessions(conn: &mut Conn, id: UserId) -> QueryResult<usize> {
    diesel::update(users::table.find(id))
        .set(users::session_version.eq(users::session_version + 1))
        .execute(conn)
}
