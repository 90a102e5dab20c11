//! `api_keys`: the keys, of each its digest only. A revoked key stays.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Binary},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    contains, key_change::Changes, key_settings::KeySettings, of_owner_before, parameters,
};
use crate::{
    db::{
        Conn, for_update,
        schema::{api_keys, users},
    },
    domain::{
        api_key::{Environment, KeyDigest},
        clock::UtcTime,
        id::{ApiKeyId, UserId},
    },
};

/// A key, without the key.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_keys)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub user_id: UserId,
    pub environment: Environment,
    pub prefix: String,
    pub created_at: UtcTime,
    pub revoked_at: Option<UtcTime>,
    pub last_used_at: Option<UtcTime>,
    /// The key whose successor this is.
    pub rotated_from: Option<ApiKeyId>,
    /// The first of the keys that came from one another by rotation. They share their limits.
    pub lineage_id: ApiKeyId,
    #[diesel(embed)]
    pub settings: KeySettings,
}

/// A key, and what of its owner bears on it.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub struct OwnedKey {
    #[diesel(embed)]
    pub key: ApiKey,
    #[diesel(select_expression = users::active)]
    pub user_active: bool,
}

/// What has become of a key, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// It is good.
    Active,
    /// Its owner has switched it off, or is deactivated.
    Disabled,
    /// Its time is over.
    Expired,
    /// It was revoked, for good.
    Revoked,
}

impl ApiKey {
    pub fn is_expired(&self, now: UtcTime) -> bool {
        has_come(self.settings.expires_at, now)
    }
}

/// Whether a key's end has: at that very moment it is not good any more.
pub(super) fn has_come(end: Option<UtcTime>, now: UtcTime) -> bool {
    end.is_some_and(|end| end <= now)
}

impl OwnedKey {
    /// What cannot be undone comes first.
    pub fn status(&self, now: UtcTime) -> KeyStatus {
        if self.key.revoked_at.is_some() {
            KeyStatus::Revoked
        } else if self.key.is_expired(now) {
            KeyStatus::Expired
        } else if !self.key.settings.enabled || !self.user_active {
            KeyStatus::Disabled
        } else {
            KeyStatus::Active
        }
    }
}

/// Stores a key.
pub fn insert(conn: &mut Conn, key: &ApiKey, digest: KeyDigest) -> QueryResult<usize> {
    diesel::insert_into(api_keys::table)
        .values((key, api_keys::digest.eq(digest)))
        .execute(conn)
}

/// Whose keys are looked at. Any other is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// One's own.
    Own(UserId),
    /// An operator's: everybody's.
    Everybody,
}

/// The key with this id.
pub fn find(conn: &mut Conn, reach: Reach, id: ApiKeyId) -> QueryResult<Option<OwnedKey>> {
    let mut found = api_keys::table
        .inner_join(users::table)
        .filter(api_keys::id.eq(id))
        .select(OwnedKey::as_select())
        .into_boxed();
    if let Reach::Own(owner) = reach {
        found = found.filter(api_keys::user_id.eq(owner));
    }
    found.first(conn).optional()
}

/// The same; nobody else changes it until the transaction ends.
pub fn find_for_update(conn: &mut Conn, reach: Reach, id: ApiKeyId) -> QueryResult<Option<ApiKey>> {
    let found: QueryResult<ApiKey> = match reach {
        Reach::Own(owner) => for_update!(
            conn,
            api_keys::table
                .filter(api_keys::id.eq(id).and(api_keys::user_id.eq(owner)))
                .select(ApiKey::as_select()),
            first
        ),
        Reach::Everybody => for_update!(
            conn,
            api_keys::table
                .filter(api_keys::id.eq(id))
                .select(ApiKey::as_select()),
            first
        ),
    };
    found.optional()
}

/// Whether a key has a successor.
pub fn is_rotated(conn: &mut Conn, id: ApiKeyId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(
        api_keys::table.filter(api_keys::rotated_from.eq(id)),
    ))
    .get_result(conn)
}

/// Which keys a list shows.
#[derive(Debug, Default)]
pub struct KeyFilter {
    pub user_id: Option<UserId>,
    pub status: Option<KeyStatus>,
    pub environment: Option<Environment>,
    /// Part of the name, folded.
    pub name_part: Option<String>,
}

/// Keys, newest first, at most `limit`, those made before `before`.
pub fn list(
    conn: &mut Conn,
    filter: &KeyFilter,
    now: UtcTime,
    before: Option<ApiKeyId>,
    limit: i64,
) -> QueryResult<Vec<OwnedKey>> {
    let mut keys = api_keys::table
        .inner_join(users::table)
        .limit(limit)
        .select(OwnedKey::as_select())
        .into_boxed();
    keys = match (filter.user_id, before) {
        (Some(owner), before) => keys
            .filter(of_owner_before!(
                "api_keys.user_id",
                "api_keys.id",
                owner,
                before
            ))
            .order((api_keys::user_id.desc(), api_keys::id.desc())),
        (None, Some(before)) => keys
            .filter(api_keys::id.lt(before))
            .order(api_keys::id.desc()),
        (None, None) => keys.order(api_keys::id.desc()),
    };
    if let Some(environment) = filter.environment {
        keys = keys.filter(api_keys::environment.eq(environment));
    }
    if let Some(part) = &filter.name_part {
        keys = keys.filter(api_keys::name_folded.like(contains(part)).escape('\\'));
    }
    // The same as `OwnedKey::status` says.
    let expired = || {
        api_keys::expires_at
            .le(now)
            .and(api_keys::expires_at.is_not_null())
    };
    let unexpired = || {
        api_keys::expires_at
            .gt(now)
            .or(api_keys::expires_at.is_null())
    };
    let enabled = || api_keys::enabled.and(users::active);
    keys = match filter.status {
        None => keys,
        Some(KeyStatus::Revoked) => keys.filter(api_keys::revoked_at.is_not_null()),
        Some(KeyStatus::Expired) => keys
            .filter(api_keys::revoked_at.is_null())
            .filter(expired()),
        Some(KeyStatus::Disabled) => keys
            .filter(api_keys::revoked_at.is_null())
            .filter(unexpired())
            .filter(diesel::dsl::not(enabled())),
        Some(KeyStatus::Active) => keys
            .filter(api_keys::revoked_at.is_null())
            .filter(unexpired())
            .filter(enabled()),
    };
    keys.load(conn)
}

/// Stores the settings of a key.
pub fn set_settings(
    conn: &mut Conn,
    changes: &mut Changes,
    id: ApiKeyId,
    settings: &KeySettings,
) -> QueryResult<()> {
    diesel::update(api_keys::table.find(id))
        .set(settings)
        .returning(api_keys::digest)
        .get_result(conn)
        .map(|digest| changes.note_key(digest))
}

/// Revokes a key; `false` if it was revoked already, and keeps its time.
pub fn revoke(
    conn: &mut Conn,
    changes: &mut Changes,
    id: ApiKeyId,
    now: UtcTime,
) -> QueryResult<bool> {
    let revoked = diesel::update(api_keys::table.find(id))
        .filter(api_keys::revoked_at.is_null())
        .set(api_keys::revoked_at.eq(now))
        .returning(api_keys::digest)
        .get_result(conn)
        .optional()?;
    let is_new = revoked.is_some();
    revoked
        .into_iter()
        .for_each(|digest| changes.note_key(digest));
    Ok(is_new)
}

/// Notes when keys were used, unless a later use is known. The keys come in the order of their ids.
pub fn set_last_used(conn: &mut Conn, uses: &[(ApiKeyId, UtcTime)]) -> QueryResult<()> {
    // Two who note the same keys lock them in the same order, and not in one that the update chooses.
    if let Conn::Postgres(conn) = conn {
        let ids = uses.iter().map(|(id, _)| id);
        api_keys::table
            .filter(api_keys::id.eq_any(ids))
            .order(api_keys::id)
            .select(api_keys::id)
            .for_update()
            .execute(conn)?;
    }
    let rows = parameters(conn, uses.len(), 2);
    let mut update = diesel::sql_query(format!(
        "UPDATE api_keys SET last_used_at = uses.column2
         FROM (VALUES {rows}) AS uses
         WHERE api_keys.id = uses.column1
           AND (api_keys.last_used_at IS NULL OR api_keys.last_used_at < uses.column2)"
    ))
    .into_boxed();
    for (id, at) in uses {
        update = update.bind::<Binary, _>(id).bind::<BigInt, _>(at);
    }
    update.execute(conn).map(drop)
}
