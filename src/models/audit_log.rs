//! Table `audit_log`: security-relevant events with their actors. Rows are only inserted and read.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::of_owner_before;
use crate::{
    db::{Conn, schema::audit_log},
    domain::{
        clock::UtcTime,
        id::{EventId, UserId},
        json_object::JsonObject,
    },
};

// `tt` instead of `literal`: utoipa's derive macro does not see a name that is passed on as a `literal`.
macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:tt,)+) => {
        /// Action that an event of the audit log records.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $name)] $action,)+
        }

        impl Action {
            /// Returns the name in the database, which is also the one in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$action => $name,)+
                }
            }
        }
    };
}

actions! {
    UserSignedUp = "user.signed_up",
    /// Login was throttled after too many failures.
    LoginThrottled = "user.login_throttled",
    PasswordChanged = "user.password_changed",
    /// All access tokens of the user were invalidated.
    LoggedOut = "user.logged_out",
    /// The role was changed, or the account was activated or deactivated.
    UserUpdated = "user.updated",
    KeyCreated = "api_key.created",
    KeyUpdated = "api_key.updated",
    KeyRotated = "api_key.rotated",
    KeyRevoked = "api_key.revoked",
    RoleCreated = "role.created",
    RoleUpdated = "role.updated",
    RoleDeleted = "role.deleted",
}

/// Row of an event.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_log)]
pub struct AuditRow {
    pub id: EventId,
    pub at: UtcTime,
    /// User who did it. `None` for the command line and for unauthenticated callers.
    pub actor_id: Option<UserId>,
    /// User who owns the target.
    pub owner_id: Option<UserId>,
    pub action: String,
    pub target_type: String,
    pub target_id: Option<String>,
    pub ip: Option<String>,
    pub request_id: Option<String>,
    pub details: JsonObject,
}

/// Inserts an event.
pub fn insert(conn: &mut Conn, row: &AuditRow) -> QueryResult<usize> {
    diesel::insert_into(audit_log::table)
        .values(row)
        .execute(conn)
}

/// Filter of a list of events.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub action: Option<&'static str>,
    pub target_id: Option<String>,
    pub actor_id: Option<UserId>,
    /// Start of the interval, inclusive.
    pub from: Option<UtcTime>,
    /// End of the interval, exclusive.
    pub to: Option<UtcTime>,
}

/// Returns at most `limit` events, newest first, that are older than `before`.
pub fn list(
    conn: &mut Conn,
    filter: &AuditFilter,
    before: Option<EventId>,
    limit: i64,
) -> QueryResult<Vec<AuditRow>> {
    let mut events = filtered(filter, limit).order(audit_log::id.desc());
    if let Some(before) = before {
        events = events.filter(audit_log::id.lt(before));
    }
    events.load(conn)
}

/// Returns the events of a user like [`list`]: those in which the user is the actor or owns the target.
pub fn list_of(
    conn: &mut Conn,
    user: UserId,
    filter: &AuditFilter,
    before: Option<EventId>,
    limit: i64,
) -> QueryResult<Vec<AuditRow>> {
    // Two queries, each with its own index. One query with OR would sort all matching rows.
    let as_actor = of_owner_before!("audit_log.actor_id", "audit_log.id", user, before);
    let mut events: Vec<AuditRow> = filtered(filter, limit)
        .filter(as_actor)
        .order((audit_log::actor_id.desc(), audit_log::id.desc()))
        .load(conn)?;
    let as_owner = of_owner_before!("audit_log.owner_id", "audit_log.id", user, before);
    let events_as_owner: Vec<AuditRow> = filtered(filter, limit)
        .filter(as_owner)
        .order((audit_log::owner_id.desc(), audit_log::id.desc()))
        .load(conn)?;
    events.extend(events_as_owner);
    events.sort_unstable_by_key(|event| std::cmp::Reverse(event.id));
    events.dedup_by_key(|event| event.id);
    events.truncate(usize::try_from(limit).unwrap_or(0));
    Ok(events)
}

fn filtered(
    filter: &AuditFilter,
    limit: i64,
) -> audit_log::BoxedQuery<'static, <Conn as diesel::Connection>::Backend> {
    let mut events = audit_log::table.limit(limit).into_boxed();
    if let Some(action) = filter.action {
        events = events.filter(audit_log::action.eq(action));
    }
    if let Some(target) = &filter.target_id {
        events = events.filter(audit_log::target_id.eq(target.clone()));
    }
    if let Some(actor) = filter.actor_id {
        events = events.filter(audit_log::actor_id.eq(actor));
    }
    if let Some(from) = filter.from {
        events = events.filter(audit_log::at.ge(from));
    }
    if let Some(to) = filter.to {
        events = events.filter(audit_log::at.lt(to));
    }
    events
}
