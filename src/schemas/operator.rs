//! JSON and query parameters of users and roles, as operators see them.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Checks, account::Account, search_term};
use crate::{
    domain::{
        error::Error,
        merge_patch::Patch,
        permission::{Permission, Permissions},
    },
    models::{
        role::Role as StoredRole,
        user::{User, UserChange, UserFilter},
    },
};

/// Account, as an operator sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserAccount {
    #[serde(flatten)]
    account: Account,
    /// False if the account is deactivated: its tokens and keys are rejected.
    active: bool,
}

impl From<User> for UserAccount {
    fn from(user: User) -> Self {
        Self {
            active: user.active,
            account: user.into(),
        }
    }
}

/// Changes to an account: a JSON merge patch (RFC 7396). An omitted field keeps its value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"active": true}))]
pub(crate) struct UpdateUser {
    /// Name of a role that has no permissions which you do not have.
    #[serde(default)]
    #[schema(value_type = String, example = "member")]
    role: Patch<String>,
    /// `false` immediately invalidates all tokens and disables all keys of the account. `true` enables the keys again
    /// that were not revoked.
    #[serde(default)]
    #[schema(value_type = bool)]
    active: Patch<bool>,
}

impl UpdateUser {
    pub(crate) fn check(self) -> Result<UserChange, Error> {
        let mut checks = Checks::default();
        let role = checks.never_cleared("/role", self.role, "must be the name of a role");
        if let Some(role) = &role {
            checks.field("/role", check_role_name(role));
        }
        let active = checks.never_cleared("/active", self.active, "must be true or false");
        checks.finish(Some(UserChange { role, active }))
    }
}

/// Filter of a list of accounts. An account must match all parameters.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Users {
    /// Name of the role.
    role: Option<String>,
    active: Option<bool>,
    /// Part of the e-mail address, case-insensitive.
    q: Option<String>,
}

impl Users {
    pub(crate) fn check(self) -> Result<UserFilter, Error> {
        let mut checks = Checks::default();
        if let Some(role) = &self.role {
            checks.field("?role", check_role_name(role));
        }
        checks.finish(Some(()))?;
        Ok(UserFilter {
            role: self.role,
            active: self.active,
            email_part: search_term(self.q)?,
        })
    }
}

/// Role: a named set of permissions.
#[derive(Serialize, ToSchema)]
pub(crate) struct Role {
    #[schema(example = "support")]
    name: String,
    #[schema(value_type = Vec<Permission>)]
    permissions: Permissions,
    /// True for a role that is part of the service. It cannot be changed or deleted.
    built_in: bool,
}

impl From<StoredRole> for Role {
    fn from(role: StoredRole) -> Self {
        Self {
            name: role.name,
            permissions: role.permissions,
            built_in: role.built_in,
        }
    }
}

/// Permissions of a role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"permissions": ["users:read", "keys:read"]}))]
pub(crate) struct PutRole {
    permissions: Vec<Permission>,
}

impl PutRole {
    /// Checks the name, which comes from the path. Returns it with the permissions.
    pub(crate) fn check(self, name: String) -> Result<(String, Permissions), Error> {
        let mut checks = Checks::default();
        checks.field("{name}", check_role_name(&name));
        checks.finish(Some((name, self.permissions.into_iter().collect())))
    }
}

/// Checks that a name is acceptable for a role.
pub(crate) fn check_role_name(name: &str) -> Result<(), &'static str> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
        Ok(())
    } else {
        Err("must be 1 to 64 of the characters a-z, 0-9, `_` and `-`")
    }
}
