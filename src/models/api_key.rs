//! `api_keys`: the keys, of each its digest only. A revoked key stays.

use diesel::prelude::*;

use crate::{
    core::{
        clock::UtcTime,
        id::{ApiKeyId, UserId},
        security::api_key::{Environment, KeyDigest},
    },
    db::{Conn, schema::api_keys},
};

/// A key, without the key.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_keys)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub user_id: UserId,
    pub name: Option<String>,
    pub environment: Environment,
    pub prefix: String,
    pub created_at: UtcTime,
    pub revoked_at: Option<UtcTime>,
}

/// What a person chooses of a new key.
pub struct KeyChoices {
    pub name: Option<String>,
    pub environment: Environment,
}

/// Stores a key.
pub fn insert(conn: &mut Conn, key: &ApiKey, digest: KeyDigest) -> QueryResult<usize> {
    diesel::insert_into(api_keys::table)
        .values((key, api_keys::digest.eq(digest.as_bytes())))
        .execute(conn)
}

/// One of the owner's keys.
pub fn find(conn: &mut Conn, owner: UserId, id: ApiKeyId) -> QueryResult<Option<ApiKey>> {
    api_keys::table
        .filter(api_keys::id.eq(id).and(api_keys::user_id.eq(owner)))
        .select(ApiKey::as_select())
        .first(conn)
        .optional()
}

/// The owner's keys, newest first, at most `limit`, those made before `before`.
pub fn list(
    conn: &mut Conn,
    owner: UserId,
    before: Option<ApiKeyId>,
    limit: i64,
) -> QueryResult<Vec<ApiKey>> {
    let mut keys = api_keys::table
        .filter(api_keys::user_id.eq(owner))
        .order(api_keys::id.desc())
        .limit(limit)
        .select(ApiKey::as_select())
        .into_boxed();
    if let Some(before) = before {
        keys = keys.filter(api_keys::id.lt(before));
    }
    keys.load(conn)
}

/// Revokes one of the owner's keys. A key that is revoked already keeps its time.
pub fn revoke(
    conn: &mut Conn,
    owner: UserId,
    id: ApiKeyId,
    now: UtcTime,
) -> QueryResult<Option<ApiKey>> {
    diesel::update(api_keys::table)
        .filter(api_keys::id.eq(id).and(api_keys::user_id.eq(owner)))
        .filter(api_keys::revoked_at.is_null())
        .set(api_keys::revoked_at.eq(now))
        .execute(conn)?;
    find(conn, owner, id)
}

/// The key with this digest, whoever's it is.
pub fn find_by_digest(conn: &mut Conn, digest: KeyDigest) -> QueryResult<Option<ApiKey>> {
    api_keys::table
        .filter(api_keys::digest.eq(digest.as_bytes()))
        .select(ApiKey::as_select())
        .first(conn)
        .optional()
}
