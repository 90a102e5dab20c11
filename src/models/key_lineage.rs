//! Lineages: the keys that came from one another by rotation. They share their limits.

use diesel::prelude::*;

use super::api_key::ApiKey;
use crate::{
    db::{Conn, for_update, schema::api_keys},
    domain::id::{ApiKeyId, UserId},
};

/// A key, and the other ones of its lineage that are not revoked.
#[derive(Debug)]
pub struct Lineage {
    pub key: ApiKey,
    pub siblings: Vec<ApiKey>,
}

/// Somebody's key with its lineage; nobody else changes it, or adds to it, until the transaction ends.
pub fn find_for_update(
    conn: &mut Conn,
    owner: UserId,
    id: ApiKeyId,
) -> QueryResult<Option<Lineage>> {
    let lineage: Option<ApiKeyId> = api_keys::table
        .filter(api_keys::id.eq(id).and(api_keys::user_id.eq(owner)))
        .select(api_keys::lineage_id)
        .first(conn)
        .optional()?;
    let Some(lineage) = lineage else {
        return Ok(None);
    };
    // In the order of their ids, as whoever else holds several. The first key is among them, which holds
    // up whoever adds to the lineage; what was added before is seen by the second statement.
    let lock = |conn: &mut Conn| -> QueryResult<Vec<ApiKey>> {
        let is_held = api_keys::revoked_at
            .is_null()
            .or(api_keys::id.eq_any([id, lineage]));
        for_update!(
            conn,
            api_keys::table
                .filter(api_keys::lineage_id.eq(lineage).and(is_held))
                .order(api_keys::id)
                .select(ApiKey::as_select()),
            load
        )
    };
    lock(conn)?;
    let mut keys = lock(conn)?;
    let place = keys.iter().position(|key| key.id == id);
    Ok(place.map(|place| {
        let key = keys.remove(place);
        keys.retain(|sibling| sibling.revoked_at.is_none());
        Lineage {
            key,
            siblings: keys,
        }
    }))
}
