//! Lineages: keys created from one another by rotation. They share their limits.

use diesel::prelude::*;

use super::api_key::ApiKey;
use crate::{
    db::{Conn, for_update, schema::api_keys},
    domain::id::{ApiKeyId, UserId},
};

/// A key and the other keys of its lineage that are not revoked.
#[derive(Debug)]
pub struct Lineage {
    pub key: ApiKey,
    pub siblings: Vec<ApiKey>,
}

/// Returns a key of this owner with its lineage. Locks the lineage until the transaction ends: no other transaction
/// changes its keys or adds one.
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
    // Rows are locked in the order of their ids, as everywhere else: this prevents deadlocks. The first key of the
    // lineage is always locked, which blocks transactions that add a key. The second statement sees the keys that
    // were added before the first one got that lock.
    let lock = |conn: &mut Conn| -> QueryResult<Vec<ApiKey>> {
        let is_locked = api_keys::revoked_at
            .is_null()
            .or(api_keys::id.eq_any([id, lineage]));
        for_update!(
            conn,
            api_keys::table
                .filter(api_keys::lineage_id.eq(lineage).and(is_locked))
                .order(api_keys::id)
                .select(ApiKey::as_select()),
            load
        )
    };
    lock(conn)?;
    let mut keys = lock(conn)?;
    let position = keys.iter().position(|key| key.id == id);
    Ok(position.map(|position| {
        let key = keys.remove(position);
        keys.retain(|sibling| sibling.revoked_at.is_none());
        Lineage {
            key,
            siblings: keys,
        }
    }))
}
