//! The audit log in JSON.

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

/// Something that was done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Event {
    id: EventId,
    #[schema(value_type = String, format = DateTime)]
    at: UtcTime,
    /// Who did it; `null` if it was done on the command line, or by somebody who had not logged in.
    #[schema(required)]
    actor_id: Option<UserId>,
    #[schema(value_type = Action, example = "api_key.updated")]
    action: String,
    /// What it was done to: `user`, `api_key`, `role`, or `client_address` for logins that are refused
    /// to all from there.
    #[schema(example = "api_key")]
    target_type: String,
    /// An id; a role's name; an address. `null` if logins failed for an account that is not there.
    #[schema(required, example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    target_id: Option<String>,
    /// The client's address, where it was known.
    #[schema(required, example = "203.0.113.7")]
    ip: Option<String>,
    /// `X-Request-Id` of the request that did it.
    #[schema(required)]
    request_id: Option<String>,
    /// What there is to say besides. For updates `changes`: what was changed, `from` what `to` what.
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

/// Which events a list shows: those that fit all of this.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Events {
    action: Option<Action>,
    /// A key's or a user's id, a role's name, or an address.
    target_id: Option<String>,
    actor_id: Option<UserId>,
    /// From this moment on (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<UtcTime>,
    /// Before this moment (RFC 3339).
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
