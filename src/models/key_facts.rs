//! Columns of `api_keys` and `users` that the decision about a key depends on.

use diesel::prelude::*;

use super::{api_key::is_past, key_limits::KeyLimits};
use crate::{
    db::{
        Conn,
        schema::{api_keys, users},
    },
    domain::{
        api_key::{Environment, KeyDigest},
        clock::UtcTime,
        id::{ApiKeyId, UserId},
        network::Networks,
        scope::Scopes,
    },
};

/// Data of a key that the decision depends on, or that is returned to the caller of a verification.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub struct KeyFacts {
    pub id: ApiKeyId,
    pub user_id: UserId,
    pub name: Option<String>,
    pub environment: Environment,
    pub enabled: bool,
    pub scopes: Scopes,
    pub expires_at: Option<UtcTime>,
    pub revoked_at: Option<UtcTime>,
    pub ip_allowlist: Networks,
    pub lineage_id: ApiKeyId,
    #[diesel(embed)]
    pub limits: KeyLimits,
    #[diesel(select_expression = users::active)]
    pub user_active: bool,
}

impl KeyFacts {
    pub fn is_expired(&self, now: UtcTime) -> bool {
        is_past(self.expires_at, now)
    }

    /// Returns the number of bytes on the heap that this value owns.
    pub fn heap_bytes(&self) -> usize {
        self.name.as_ref().map_or(0, String::capacity)
            + self.scopes.0.capacity()
            + self.ip_allowlist.heap_bytes()
    }
}

/// Returns the key with this digest, of any owner.
pub fn find_by_digest(conn: &mut Conn, digest: KeyDigest) -> QueryResult<Option<KeyFacts>> {
    api_keys::table
        .inner_join(users::table)
        .filter(api_keys::digest.eq(digest))
        .select(KeyFacts::as_select())
        .first(conn)
        .optional()
}
