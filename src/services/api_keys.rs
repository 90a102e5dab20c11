//! API key use cases: create, list, get, update, rotate, revoke.

use serde_json::{Map, Value, json};

use super::{
    audit::{self, Target},
    caller::Caller,
};
use crate::{
    db::{Aborted, Conn, Db},
    domain::{
        api_key::{Environment, PlainApiKey},
        clock::{Clock, UtcTime},
        error::Error,
        id::{ApiKeyId, UserId},
        merge_patch::Patch,
        permission::{Authority, Permission},
        scope::Scopes,
    },
    models::{
        api_key::{self, ApiKey, KeyFilter, OwnedKey, Ownership},
        audit_log::Action,
        key_change::Changes,
        key_limits::KeyLimits,
        key_lineage::{self, Lineage},
        key_settings::{KeyPatch, KeySettings},
    },
    verification::coherence::Coherence,
};

const NOT_ACTIVE: &str = "The key has expired or was revoked and cannot be changed.";
const ROTATED: &str = "The key has already been rotated. Rotate its successor.";
const IN_GRACE: &str = "The key was rotated: its grace period can only be shortened.";

/// Use cases of API keys.
pub struct ApiKeys {
    db: Db,
    coherence: Coherence,
    clock: Clock,
}

impl ApiKeys {
    pub fn new(db: Db, coherence: Coherence, clock: Clock) -> Self {
        Self {
            db,
            coherence,
            clock,
        }
    }

    /// Creates a key of the caller. This is the only time that the full key is returned.
    pub async fn create(
        &self,
        caller: &Caller,
        environment: Environment,
        settings: KeySettings,
    ) -> Result<(PlainApiKey, OwnedKey), Error> {
        let now = self.clock.now();
        let plain = PlainApiKey::generate(environment);
        let key = new_key(&plain, caller.user.id, environment, settings, None, now);
        let (digest, caller) = (plain.digest(), caller.clone());
        let insert = move |conn: &mut Conn| {
            let added = key.settings.scopes.iter();
            require_scopes_allowed(caller.authority_now(conn)?, added)?;
            api_key::insert(conn, &key, digest)?;
            let mut details = audit::members(&key.settings)?;
            details.insert("environment".to_owned(), json!(key.environment));
            record(conn, now, &caller, Action::KeyCreated, &key, details)?;
            Ok(with_active_owner(key))
        };
        Ok((plain, self.db.write(insert).await?))
    }

    /// Returns a page of keys that were created before the key `before`, newest first.
    pub async fn list(
        &self,
        filter: KeyFilter,
        before: Option<ApiKeyId>,
        limit: i64,
    ) -> Result<Vec<OwnedKey>, Error> {
        let now = self.clock.now();
        self.db
            .read(move |conn| api_key::list(conn, &filter, now, before, limit))
            .await
    }

    /// Returns one key.
    pub async fn get(&self, reach: Ownership, id: ApiKeyId) -> Result<OwnedKey, Error> {
        self.db
            .read(move |conn| api_key::find(conn, reach, id))
            .await?
            .ok_or(Error::NotFound)
    }

    /// Changes a key of the caller.
    pub async fn update(
        &self,
        caller: &Caller,
        id: ApiKeyId,
        patch: KeyPatch,
    ) -> Result<OwnedKey, Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        let is_closing = patch.is_only_disabling();
        let change_key = move |conn: &mut Conn, key_changes: &mut Changes| {
            let authority = caller.authority_now(conn)?;
            let (Lineage { key, siblings }, now) = find_changeable(conn, &clock, &caller, id)?;
            let before = &key.settings;
            let after = patch
                .clone()
                .apply(before)
                .map_err(|error| Error::Validation(vec![error]))?;
            let is_new = |scope: &&str| before.scopes.iter().all(|existing| existing != *scope);
            require_scopes_allowed(authority, after.scopes.iter().filter(is_new))?;
            // `None` is later than any time.
            let end = |settings: &KeySettings| settings.expires_at.map_or(i64::MAX, |at| at.0);
            if end(&after) > end(before) && api_key::is_rotated(conn, id)? {
                return Err(Error::Conflict(IN_GRACE.into()).into());
            }
            let Some(changes) = audit::changes(before, &after)? else {
                return Ok(with_active_owner(key));
            };
            api_key::set_settings(conn, key_changes, id, &after)?;
            record(conn, now, &caller, Action::KeyUpdated, &key, changes)?;
            for sibling in siblings.iter().filter(|_| after.limits != before.limits) {
                share_limits(conn, key_changes, &caller, now, sibling, after.limits)?;
            }
            Ok(with_active_owner(ApiKey {
                settings: after,
                ..key
            }))
        };
        if is_closing {
            self.coherence.write_revocation(change_key).await
        } else {
            self.coherence.write(change_key).await
        }
    }

    /// Creates a successor of a key of the caller, with the same settings. The old key expires after the grace period,
    /// or earlier if its own expiry is earlier. Without a grace period it is revoked.
    pub async fn rotate(
        &self,
        caller: &Caller,
        id: ApiKeyId,
        grace_period_seconds: i64,
    ) -> Result<(PlainApiKey, OwnedKey), Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        self.coherence
            .write(move |conn, key_changes| {
                caller.authority_now(conn)?;
                let (Lineage { key: old, .. }, now) = find_changeable(conn, &clock, &caller, id)?;
                if api_key::is_rotated(conn, id)? {
                    return Err(Error::Conflict(ROTATED.into()).into());
                }
                let plain = PlainApiKey::generate(old.environment);
                let settings = old.settings.clone();
                let new = new_key(
                    &plain,
                    old.user_id,
                    old.environment,
                    settings,
                    Some(&old),
                    now,
                );
                api_key::insert(conn, &new, plain.digest())?;
                match grace_period_seconds {
                    // Revoked, rather than expired now: the clock of another instance may be behind.
                    0 => drop(api_key::revoke(conn, key_changes, id, now)?),
                    grace => set_latest_expiry(conn, key_changes, &old, now.plus_seconds(grace))?,
                }
                let mut details = audit::details("successor_id", new.id.to_string());
                details.insert(
                    "grace_period_seconds".to_owned(),
                    json!(grace_period_seconds),
                );
                record(conn, now, &caller, Action::KeyRotated, &old, details)?;
                Ok((plain, with_active_owner(new)))
            })
            .await
    }

    /// Revokes a key for good. Idempotent.
    pub async fn revoke(
        &self,
        caller: &Caller,
        reach: Ownership,
        id: ApiKeyId,
    ) -> Result<OwnedKey, Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        self.coherence
            .write_revocation(move |conn, key_changes| {
                match reach {
                    Ownership::Own(_) => caller.authority_now(conn)?,
                    Ownership::Everybody => caller.authority_for(conn, Permission::KeysWrite)?,
                };
                let key = api_key::find_for_update(conn, reach, id)?.ok_or(Error::NotFound)?;
                let now = clock.now();
                if api_key::revoke(conn, key_changes, id, now)? {
                    record(conn, now, &caller, Action::KeyRevoked, &key, Map::new())?;
                }
                api_key::find(conn, reach, id)?.ok_or_else(|| Error::NotFound.into())
            })
            .await
    }
}

/// Returns a key of the caller that is neither revoked nor expired, its lineage, and the time of that check. The
/// lineage stays locked until the transaction ends.
fn find_changeable(
    conn: &mut Conn,
    clock: &Clock,
    caller: &Caller,
    id: ApiKeyId,
) -> Result<(Lineage, UtcTime), Aborted> {
    let found = key_lineage::find_for_update(conn, caller.user.id, id)?;
    let lineage = found.ok_or(Error::NotFound)?;
    let now = clock.now();
    if lineage.key.revoked_at.is_some() || lineage.key.is_expired(now) {
        Err(Error::Conflict(NOT_ACTIVE.into()).into())
    } else {
        Ok((lineage, now))
    }
}

/// Copies new limits to another key of the same lineage.
fn share_limits(
    conn: &mut Conn,
    key_changes: &mut Changes,
    caller: &Caller,
    now: UtcTime,
    key: &ApiKey,
    limits: KeyLimits,
) -> Result<(), Aborted> {
    let before = &key.settings;
    let mut after = before.clone();
    after.limits = limits;
    let Some(changes) = audit::changes(before, &after)? else {
        return Ok(());
    };
    api_key::set_settings(conn, key_changes, key.id, &after)?;
    record(conn, now, caller, Action::KeyUpdated, key, changes)?;
    Ok(())
}

/// Sets the expiry of a key to `end`, unless the key expires earlier.
fn set_latest_expiry(
    conn: &mut Conn,
    key_changes: &mut Changes,
    key: &ApiKey,
    end: UtcTime,
) -> Result<(), Aborted> {
    let current_end = key.settings.expires_at;
    let patch = KeyPatch {
        expires_at: Patch::Set(current_end.map_or(end, |current_end| current_end.min(end))),
        ..KeyPatch::default()
    };
    let applied = patch.apply(&key.settings);
    let settings = applied.map_err(|error| Error::internal(error.message))?;
    api_key::set_settings(conn, key_changes, key.id, &settings)?;
    Ok(())
}

/// Returns an error if someone other than an admin gives a key a reserved scope.
fn require_scopes_allowed<'a>(
    authority: Authority,
    mut scopes: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    if !authority.is_admin && scopes.any(Scopes::is_reserved) {
        return Err(Error::PermissionDenied(
            "Only an admin can give a key a scope that begins with `keys:`.".into(),
        ));
    }
    Ok(())
}

fn new_key(
    plain: &PlainApiKey,
    owner: UserId,
    environment: Environment,
    settings: KeySettings,
    rotated_from: Option<&ApiKey>,
    now: UtcTime,
) -> ApiKey {
    let id = ApiKeyId::generate(now);
    ApiKey {
        id,
        user_id: owner,
        environment,
        prefix: plain.prefix().to_owned(),
        created_at: now,
        revoked_at: None,
        last_used_at: None,
        rotated_from: rotated_from.map(|old| old.id),
        lineage_id: rotated_from.map_or(id, |old| old.lineage_id),
        settings,
    }
}

/// Returns a key with its owner marked as active: the owner has just called.
fn with_active_owner(key: ApiKey) -> OwnedKey {
    OwnedKey {
        key,
        user_active: true,
    }
}

fn record(
    conn: &mut Conn,
    now: UtcTime,
    caller: &Caller,
    action: Action,
    key: &ApiKey,
    details: Map<String, Value>,
) -> diesel::QueryResult<()> {
    let target = Target::Key {
        id: key.id,
        owner: key.user_id,
    };
    audit::record(conn, now, caller.by(), (action, target), details)
}
