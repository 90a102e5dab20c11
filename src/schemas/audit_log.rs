//! JSON and query parameters of the audit log.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Checks;
use crate::{
    domain::{
        clock::UtcTime,
        error::Error,
        id::{EventId, UserId},
        json_object::JsonObject,
    },
    models::audit_log::{Action, AuditFilter, AuditRow},
};

/// Audit event: an action, and who did it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Event {
    id: EventId,
    #[schema(value_type = String, format = DateTime)]
    at: UtcTime,
    /// Id of the account that acted. `null` for the command line, and for a client that was not logged in.
    #[schema(required)]
    actor_id: Option<UserId>,
    #[schema(value_type = Action, example = "api_key.updated")]
    action: String,
    /// Kind of the target: `user`, `api_key`, `role`, or `client_address` if logins from an address are throttled.
    #[schema(example = "api_key")]
    target_type: String,
    /// Id of the target; for a role its name, for a client its address. `null` if logins failed for an unknown account.
    #[schema(required, example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    target_id: Option<String>,
    /// IP address of the client, if known.
    #[schema(required, example = "203.0.113.7")]
    ip: Option<String>,
    /// `X-Request-Id` of the request that caused the event.
    #[schema(required)]
    request_id: Option<String>,
    /// Details of the action. An update has `changes`: each changed field with its old value in `from` and its new
    /// value in `to`.
    #[schema(value_type = Object, example = json!({"changes": {"enabled": {"from": true, "to": false}}}))]
    details: JsonObject,
}

impl From<AuditRow> for Event {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor_id: row.actor_id,
            action: row.action,
            target_type: row.target_type,
            target_id: row.target_id,
            ip: row.ip,
            request_id: row.request_id,
            details: row.details,
        }
    }
}

/// Filter of a list of events. An event must match all parameters.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Events {
    action: Option<Action>,
    /// Id of a key or an account, name of a role, or an address.
    target_id: Option<String>,
    actor_id: Option<UserId>,
    /// Start of the time range, inclusive (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<UtcTime>,
    /// End of the time range, exclusive (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<UtcTime>,
}

impl Events {
    pub(crate) fn check(self) -> Result<AuditFilter, Error> {
        let mut checks = Checks::default();
        let is_acceptable = |text: &str| text.len() <= 128 && !text.contains(char::is_control);
        if !self.target_id.as_deref().is_none_or(is_acceptable) {
            let remedy = "must be at most 128 bytes without control characters";
            checks.field("?target_id", Err::<(), _>(remedy));
        }
        checks.finish(Some(AuditFilter {
            action: self.action.map(Action::as_str),
            target_id: self.target_id,
            actor_id: self.actor_id,
            from: self.from,
            to: self.to,
        }))
    }
}
