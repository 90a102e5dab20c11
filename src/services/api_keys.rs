//! API keys: create, list, look at, change, rotate, revoke.

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
        api_key::{self, ApiKey, KeyFilter, OwnedKey, Reach},
        audit_log::Action,
        key_change::Changes,
        key_limits::KeyLimits,
        key_lineage::{self, Lineage},
        key_settings::{KeyPatch, KeySettings},
    },
    verification::coherence::Coherence,
};

const GONE: &str = "The key has expired or was revoked, and can't be changed any more.";
const ROTATED: &str = "The key was rotated already. Rotate its successor.";
const IN_GRACE: &str = "The key was rotated, and its grace period can only be shortened.";

/// What can be done with keys.
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

    /// Makes a key of the caller's. The only time that it is seen whole.
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
        let created = move |conn: &mut Conn| {
            let added = key.settings.scopes.iter();
            may_give(caller.authority_now(conn)?, added)?;
            api_key::insert(conn, &key, digest)?;
            let mut details = audit::members(&key.settings)?;
            details.insert("environment".to_owned(), json!(key.environment));
            record(conn, now, &caller, Action::KeyCreated, &key, details)?;
            Ok(owned(key))
        };
        Ok((plain, self.db.write(created).await?))
    }

    /// A page of keys, newest first: those made before the key `before`.
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

    /// One key.
    pub async fn get(&self, reach: Reach, id: ApiKeyId) -> Result<OwnedKey, Error> {
        self.db
            .read(move |conn| api_key::find(conn, reach, id))
            .await?
            .ok_or(Error::NotFound)
    }

    /// Changes a key of the caller's.
    pub async fn update(
        &self,
        caller: &Caller,
        id: ApiKeyId,
        patch: KeyPatch,
    ) -> Result<OwnedKey, Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        let closes = patch.only_disables();
        let make = move |conn: &mut Conn, key_changes: &mut Changes| {
            let authority = caller.authority_now(conn)?;
            let (Lineage { key, siblings }, now) = changeable(conn, &clock, &caller, id)?;
            let before = &key.settings;
            let after = patch
                .clone()
                .apply(before)
                .map_err(|wrong| Error::Validation(vec![wrong]))?;
            let is_new = |scope: &&str| before.scopes.iter().all(|known| known != *scope);
            may_give(authority, after.scopes.iter().filter(is_new))?;
            // `None` is later than any time.
            let end = |settings: &KeySettings| settings.expires_at.map_or(i64::MAX, |at| at.0);
            if end(&after) > end(before) && api_key::is_rotated(conn, id)? {
                return Err(Error::Conflict(IN_GRACE.into()).into());
            }
            let Some(changes) = audit::changes(before, &after)? else {
                return Ok(owned(key));
            };
            api_key::set_settings(conn, key_changes, id, &after)?;
            record(conn, now, &caller, Action::KeyUpdated, &key, changes)?;
            for sibling in siblings.iter().filter(|_| after.limits != before.limits) {
                share_limits(conn, key_changes, &caller, now, sibling, after.limits)?;
            }
            Ok(owned(ApiKey {
                settings: after,
                ..key
            }))
        };
        match closes {
            true => self.coherence.write_closing(make).await,
            false => self.coherence.write(make).await,
        }
    }

    /// Makes a successor with everything of a key of the caller's. The old key stops working after the
    /// grace period, or before if it would have anyway; without one it is revoked.
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
                let (Lineage { key: old, .. }, now) = changeable(conn, &clock, &caller, id)?;
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
                    // Not a time, which the clock of another instance could be behind of.
                    0 => drop(api_key::revoke(conn, key_changes, id, now)?),
                    grace => end_by(conn, key_changes, &old, now.plus_seconds(grace))?,
                }
                let mut details = audit::details("successor_id", new.id.to_string());
                details.insert(
                    "grace_period_seconds".to_owned(),
                    json!(grace_period_seconds),
                );
                record(conn, now, &caller, Action::KeyRotated, &old, details)?;
                Ok((plain, owned(new)))
            })
            .await
    }

    /// Revokes a key for good. Again is the same.
    pub async fn revoke(
        &self,
        caller: &Caller,
        reach: Reach,
        id: ApiKeyId,
    ) -> Result<OwnedKey, Error> {
        let (clock, caller) = (self.clock.clone(), caller.clone());
        self.coherence
            .write_closing(move |conn, key_changes| {
                match reach {
                    Reach::Own(_) => caller.authority_now(conn)?,
                    Reach::Everybody => caller.authority_for(conn, Permission::KeysWrite)?,
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

/// A key of the caller's that is neither revoked nor expired, with its lineage, and the time at which
/// that was so. Nobody else changes it until the transaction ends.
fn changeable(
    conn: &mut Conn,
    clock: &Clock,
    caller: &Caller,
    id: ApiKeyId,
) -> Result<(Lineage, UtcTime), Aborted> {
    let found = key_lineage::find_for_update(conn, caller.user.id, id)?;
    let lineage = found.ok_or(Error::NotFound)?;
    let now = clock.now();
    match lineage.key.revoked_at.is_some() || lineage.key.is_expired(now) {
        true => Err(Error::Conflict(GONE.into()).into()),
        false => Ok((lineage, now)),
    }
}

/// Gives a key the limits that another of its lineage has now.
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

/// Sees to it that a key ends at this time, unless it does before.
fn end_by(
    conn: &mut Conn,
    key_changes: &mut Changes,
    key: &ApiKey,
    end: UtcTime,
) -> Result<(), Aborted> {
    let own_end = key.settings.expires_at;
    let ending = KeyPatch {
        expires_at: Patch::Set(own_end.map_or(end, |own_end| own_end.min(end))),
        ..KeyPatch::default()
    };
    let applied = ending.apply(&key.settings);
    let settings = applied.map_err(|wrong| Error::internal(wrong.message))?;
    api_key::set_settings(conn, key_changes, key.id, &settings)?;
    Ok(())
}

/// Only an admin gives a key scopes of this service's own.
fn may_give<'a>(
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

/// A key whose owner has just called, and so is active.
fn owned(key: ApiKey) -> OwnedKey {
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
