//! `audit_log`: what was changed, by whom. Rows are added and read, and nothing else.

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

// `tt`: a name that is passed on as a `literal` is not seen by the document's derive.
macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:tt,)+) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $name)] $action,)+
        }

        impl Action {
            /// The name in the database, the same as in JSON.
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
    /// Logging in failed so often that it is refused for a while.
    LoginThrottled = "user.login_throttled",
    PasswordChanged = "user.password_changed",
    /// Every token was ended.
    LoggedOut = "user.logged_out",
    /// Another role, activated, or deactivated.
    UserUpdated = "user.updated",
    KeyCreated = "api_key.created",
    KeyUpdated = "api_key.updated",
    KeyRotated = "api_key.rotated",
    KeyRevoked = "api_key.revoked",
    RoleCreated = "role.created",
    RoleUpdated = "role.updated",
    RoleDeleted = "role.deleted",
}

/// An event.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_log)]
pub struct AuditRow {
    pub id: EventId,
    pub at: UtcTime,
    /// Who did it; `None` for the command line, and for those who have not logged in.
    pub actor_id: Option<UserId>,
    /// Whose thing it was done to.
    pub owner_id: Option<UserId>,
    pub action: String,
    pub target_type: String,
    pub target_id: Option<String>,
    pub ip: Option<String>,
    pub request_id: Option<String>,
    pub details: JsonObject,
}

/// Adds an event.
pub fn insert(conn: &mut Conn, row: &AuditRow) -> QueryResult<usize> {
    diesel::insert_into(audit_log::table)
        .values(row)
        .execute(conn)
}

/// Which events a list shows.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub action: Option<&'static str>,
    pub target_id: Option<String>,
    pub actor_id: Option<UserId>,
    /// The first moment.
    pub from: Option<UtcTime>,
    /// The first moment after.
    pub to: Option<UtcTime>,
}

/// Events, newest first, at most `limit`, those recorded before `before`.
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

/// The same of those that a person took part in: what they did, and what was done to their things.
pub fn list_of(
    conn: &mut Conn,
    person: UserId,
    filter: &AuditFilter,
    before: Option<EventId>,
    limit: i64,
) -> QueryResult<Vec<AuditRow>> {
    // Two queries, each with an index of its own. An OR would sort all that either finds.
    let by_person = of_owner_before!("audit_log.actor_id", "audit_log.id", person, before);
    let mut events: Vec<AuditRow> = filtered(filter, limit)
        .filter(by_person)
        .order((audit_log::actor_id.desc(), audit_log::id.desc()))
        .load(conn)?;
    let to_person = of_owner_before!("audit_log.owner_id", "audit_log.id", person, before);
    let done_to: Vec<AuditRow> = filtered(filter, limit)
        .filter(to_person)
        .order((audit_log::owner_id.desc(), audit_log::id.desc()))
        .load(conn)?;
    events.extend(done_to);
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
