//! What of a row of `api_keys`, and of its owner's, a verdict depends on.

use diesel::prelude::*;

use super::{api_key::has_come, key_limits::KeyLimits};
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

/// What of a key bears on the decision whether it is good, and what whoever lets it in is told of it.
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
        has_come(self.expires_at, now)
    }

    /// The bytes that it takes besides itself.
    pub fn heap_bytes(&self) -> usize {
        self.name.as_ref().map_or(0, String::capacity)
            + self.scopes.0.capacity()
            + self.ip_allowlist.heap_bytes()
    }
}

/// The key with this digest, whoever's it is.
pub fn find_by_digest(conn: &mut Conn, digest: KeyDigest) -> QueryResult<Option<KeyFacts>> {
    api_keys::table
        .inner_join(users::table)
        .filter(api_keys::digest.eq(digest))
        .select(KeyFacts::as_select())
        .first(conn)
        .optional()
}
