//! Table `api_keys`: API keys, stored as digests. Revoked keys stay in the table.

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

/// Row of a key. It does not contain the plain key.
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
    /// Key that was rotated to create this one.
    pub rotated_from: Option<ApiKeyId>,
    /// Id of the first key of the lineage: the keys created from one another by rotation. They share their limits.
    pub lineage_id: ApiKeyId,
    #[diesel(embed)]
    pub settings: KeySettings,
}

/// Row of a key, with the part of its owner's account that its status depends on.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub struct OwnedKey {
    #[diesel(embed)]
    pub key: ApiKey,
    #[diesel(select_expression = users::active)]
    pub user_active: bool,
}

/// Status of a key. If several apply, the first of `revoked`, `expired` and `disabled` is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// The key is usable.
    Active,
    /// The owner has disabled the key, or the owner's account is deactivated.
    Disabled,
    /// The expiry of the key has passed.
    Expired,
    /// The key was revoked permanently.
    Revoked,
}

impl ApiKey {
    pub fn is_expired(&self, now: UtcTime) -> bool {
        is_past(self.settings.expires_at, now)
    }
}

/// Returns whether an expiry has passed. At exactly that time the key is expired.
pub(super) fn is_past(expiry: Option<UtcTime>, now: UtcTime) -> bool {
    expiry.is_some_and(|expiry| expiry <= now)
}

impl OwnedKey {
    /// Returns the status. States that cannot be undone take precedence.
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

/// Inserts a key.
pub fn insert(conn: &mut Conn, key: &ApiKey, digest: KeyDigest) -> QueryResult<usize> {
    diesel::insert_into(api_keys::table)
        .values((key, api_keys::digest.eq(digest)))
        .execute(conn)
}

/// Owners whose keys a query can see. Other keys are treated as not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The keys of this user.
    Own(UserId),
    /// The keys of all users, for operators.
    Everybody,
}

/// Returns the key with this id.
pub fn find(conn: &mut Conn, reach: Ownership, id: ApiKeyId) -> QueryResult<Option<OwnedKey>> {
    let mut found = api_keys::table
        .inner_join(users::table)
        .filter(api_keys::id.eq(id))
        .select(OwnedKey::as_select())
        .into_boxed();
    if let Ownership::Own(owner) = reach {
        found = found.filter(api_keys::user_id.eq(owner));
    }
    found.first(conn).optional()
}

/// Returns the key with this id and locks its row until the transaction ends.
pub fn find_for_update(
    conn: &mut Conn,
    reach: Ownership,
    id: ApiKeyId,
) -> QueryResult<Option<ApiKey>> {
    let found: QueryResult<ApiKey> = match reach {
        Ownership::Own(owner) => for_update!(
            conn,
            api_keys::table
                .filter(api_keys::id.eq(id).and(api_keys::user_id.eq(owner)))
                .select(ApiKey::as_select()),
            first
        ),
        Ownership::Everybody => for_update!(
            conn,
            api_keys::table
                .filter(api_keys::id.eq(id))
                .select(ApiKey::as_select()),
            first
        ),
    };
    found.optional()
}

/// Returns whether a key was rotated and so has a successor.
pub fn is_rotated(conn: &mut Conn, id: ApiKeyId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(
        api_keys::table.filter(api_keys::rotated_from.eq(id)),
    ))
    .get_result(conn)
}

/// Filter of a list of keys.
#[derive(Debug, Default)]
pub struct KeyFilter {
    pub user_id: Option<UserId>,
    pub status: Option<KeyStatus>,
    pub environment: Option<Environment>,
    /// Case-folded part of the name.
    pub name_part: Option<String>,
}

/// Returns at most `limit` keys, newest first, that are older than `before`.
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
    // Must agree with `OwnedKey::status`.
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

/// Replaces the settings of a key.
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
        .map(|digest| changes.add_key(digest))
}

/// Revokes a key. Returns `false` if it was already revoked; its revocation time then stays.
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
        .for_each(|digest| changes.add_key(digest));
    Ok(is_new)
}

/// Stores when keys were last used, unless a later use is stored. `uses` must be sorted by id.
pub fn set_last_used(conn: &mut Conn, uses: &[(ApiKeyId, UtcTime)]) -> QueryResult<()> {
    // Locks the rows in the order of their ids. The update alone would lock them in any order, and two
    // concurrent updates of the same keys could deadlock.
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
