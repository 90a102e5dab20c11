//! The audit log: every change tells of itself in the transaction that makes it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::caller::{Caller, Origin};
use crate::{
    core::{
        clock::UtcTime,
        error::Error,
        id::{ApiKeyId, EventId, UserId},
        permission::Permission,
    },
    db::{Conn, Db},
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

/// Records an event. It belongs into the transaction that makes the change: if this fails, so does
/// that.
pub(super) fn record(
    conn: &mut Conn,
    now: UtcTime,
    actor: Option<UserId>,
    origin: &Origin,
    (action, target): (Action, Target),
    mut details: Map<String, Value>,
) -> diesel::QueryResult<()> {
    if origin.command_line {
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
        ip: origin.ip.map(|ip| ip.to_string()),
        request_id: origin.request_id.clone(),
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
    /// part in.
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
            .read(move |conn| match all {
                true => audit_log::list(conn, &filter, before, limit),
                false => audit_log::list_of(conn, caller, &filter, before, limit),
            })
            .await
    }
}
