//! The audit log: every change tells of itself in the transaction that makes it.

use diesel::QueryResult;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::caller::{Caller, Origin};
use crate::{
    db::{Conn, Db},
    domain::{
        clock::UtcTime,
        error::Error,
        id::{ApiKeyId, EventId, UserId},
        permission::Permission,
    },
    models::audit_log::{self, Action, AuditFilter, AuditRow},
};

/// What it was done to.
pub(super) enum Target {
    User(UserId),
    /// An address that no account has.
    UnknownUser,
    /// A client's address.
    ClientAddress(String),
    Key {
        id: ApiKeyId,
        owner: UserId,
    },
    Role(String),
}

impl Target {
    fn kind(&self) -> &'static str {
        match self {
            Self::User(_) | Self::UnknownUser => "user",
            Self::ClientAddress(_) => "client_address",
            Self::Key { .. } => "api_key",
            Self::Role(_) => "role",
        }
    }

    fn id(&self) -> Option<String> {
        match self {
            Self::User(id) => Some(id.to_string()),
            Self::UnknownUser => None,
            Self::ClientAddress(address) => Some(address.clone()),
            Self::Key { id, .. } => Some(id.to_string()),
            Self::Role(name) => Some(name.clone()),
        }
    }

    fn owner(&self) -> Option<UserId> {
        match self {
            Self::User(id) => Some(*id),
            Self::Key { owner, .. } => Some(*owner),
            _ => None,
        }
    }
}

/// Who did it, and from where.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    /// Somebody who has logged in, or just signed up.
    User(UserId, &'a Origin),
    /// Somebody who has not.
    Anybody(&'a Origin),
    /// Whoever may run the program on this database.
    CommandLine,
}

impl Caller {
    pub(super) fn by(&self) -> By<'_> {
        By::User(self.user.id, &self.origin)
    }
}

/// Records an event. It belongs into the transaction that makes the change: if this fails, so does
/// that.
pub(super) fn record(
    conn: &mut Conn,
    now: UtcTime,
    by: By<'_>,
    (action, target): (Action, Target),
    mut details: Map<String, Value>,
) -> QueryResult<()> {
    let (actor, origin) = match by {
        By::User(id, origin) => (Some(id), Some(origin)),
        By::Anybody(origin) => (None, Some(origin)),
        By::CommandLine => (None, None),
    };
    if origin.is_none() {
        details.insert("via".to_owned(), json!("command_line"));
    }
    let row = AuditRow {
        id: EventId::generate(now),
        at: now,
        actor_id: actor,
        owner_id: target.owner(),
        action: action.as_str().to_owned(),
        target_type: target.kind().to_owned(),
        target_id: target.id(),
        ip: origin.and_then(|origin| Some(origin.ip?.to_string())),
        request_id: origin.and_then(|origin| origin.request_id.clone()),
        details: details.into(),
    };
    audit_log::insert(conn, &row).map(drop)
}

/// Which members differ: `{"changes": {"name": {"from": …, "to": …}}}`; `None` if none does.
pub(super) fn changes(
    before: &impl Serialize,
    after: &impl Serialize,
) -> Result<Option<Map<String, Value>>, Error> {
    let (before, after) = (members(before)?, members(after)?);
    let differing: Map<_, _> = after
        .into_iter()
        .filter(|(name, value)| before.get(name) != Some(value))
        .map(|(name, to)| {
            let from = before.get(&name).cloned().unwrap_or_default();
            (name, json!({"from": from, "to": to}))
        })
        .collect();
    Ok((!differing.is_empty()).then(|| details("changes", differing)))
}

/// Details with one member.
pub(super) fn details(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}

/// What something is in JSON, as details.
pub(super) fn members(value: &impl Serialize) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(value).map_err(Error::internal)? {
        Value::Object(members) => Ok(members),
        _ => Err(Error::internal("not an object")),
    }
}

/// Reads the log.
pub struct Audit {
    db: Db,
}

impl Audit {
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// A page of events, newest first: all of them with `audit:read`, else those that the caller took
    /// part in, and of what others did not from where they did it.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: AuditFilter,
        before: Option<EventId>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, Error> {
        let all = caller.authority.permissions.contain(Permission::AuditRead);
        let caller = caller.user.id;
        self.db
            .read(move |conn| {
                if all {
                    return audit_log::list(conn, &filter, before, limit);
                }
                let mut events = audit_log::list_of(conn, caller, &filter, before, limit)?;
                for event in &mut events {
                    if event.actor_id.is_some_and(|actor| actor != caller) {
                        event.ip = None;
                        event.request_id = None;
                    }
                }
                Ok(events)
            })
            .await
    }
}
