//! `users`: the accounts.

use diesel::prelude::*;

use crate::{
    core::{
        clock::UtcTime,
        id::UserId,
        security::{email::EmailKey, password_hasher::PasswordHash},
    },
    db::{Conn, InsertResult as _, schema::users},
};

/// An account.
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
}

/// Adds an account; `false` if the address has one.
pub fn insert(conn: &mut Conn, user: &User) -> QueryResult<bool> {
    diesel::insert_into(users::table)
        .values(user)
        .execute(conn)
        .unless_taken()
        .map(|inserted| inserted.is_some())
}

/// The account with this id.
pub fn find(conn: &mut Conn, id: UserId) -> QueryResult<Option<User>> {
    users::table.find(id).first(conn).optional()
}

/// The account of this address.
pub fn find_by_email(conn: &mut Conn, email: &EmailKey) -> QueryResult<Option<User>> {
    users::table
        .filter(users::email_key.eq(email))
        .first(conn)
        .optional()
}

/// Sets the password and ends every session, unless they were ended since `version`.
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

/// Stores another hash of the same password, unless the password was changed since.
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

/// Ends every session.
pub fn end_sessions(conn: &mut Conn, id: UserId) -> QueryResult<usize> {
    diesel::update(users::table.find(id))
        .set(users::session_version.eq(users::session_version + 1))
        .execute(conn)
}
