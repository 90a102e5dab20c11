//! Audit log: every change writes its event in the transaction that makes the change.

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

/// Object of an event.
pub(super) enum Target {
    User(UserId),
    /// An e-mail address without an account.
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

/// Actor of an event, with the origin of the request.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    /// A user who is logged in or has just signed up.
    User(UserId, &'a Origin),
    /// A client that is not logged in.
    Anonymous(&'a Origin),
    /// A person who runs the program on this database.
    CommandLine,
}

impl Caller {
    pub(super) fn by(&self) -> By<'_> {
        By::User(self.user.id, &self.origin)
    }
}

/// Writes an event. It must run in the transaction that makes the change, so that the change fails if the event cannot
/// be written.
pub(super) fn record(
    conn: &mut Conn,
    now: UtcTime,
    by: By<'_>,
    (action, target): (Action, Target),
    mut details: Map<String, Value>,
) -> QueryResult<()> {
    let (actor, origin) = match by {
        By::User(id, origin) => (Some(id), Some(origin)),
        By::Anonymous(origin) => (None, Some(origin)),
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

/// Returns the members that differ, as `{"changes": {"name": {"from": …, "to": …}}}`. Returns `None` if none does.
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

/// Returns details with one member.
pub(super) fn details(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}

/// Returns the members of a value's JSON object, as details.
pub(super) fn members(value: &impl Serialize) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(value).map_err(Error::internal)? {
        Value::Object(members) => Ok(members),
        _ => Err(Error::internal("not an object")),
    }
}

/// Use cases of the audit log.
pub struct Audit {
    db: Db,
}

impl Audit {
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Returns a page of events, newest first. Callers with `audit:read` get all events. Other callers get the events
    /// that concern them, without the client address and request id of other actors.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: AuditFilter,
        before: Option<EventId>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, Error> {
        let can_read_all = caller.authority.permissions.contain(Permission::AuditRead);
        let caller = caller.user.id;
        self.db
            .read(move |conn| {
                if can_read_all {
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
