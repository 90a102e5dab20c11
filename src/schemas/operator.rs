//! Users and roles in JSON, as operators see them.

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

/// An account, as an operator sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserAccount {
    #[serde(flatten)]
    account: Account,
    /// Whether its tokens and keys work.
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

/// What changes of an account (RFC 7396): what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"active": true}))]
pub(crate) struct UpdateUser {
    /// The name of a role that allows nothing which you may not do yourself.
    #[serde(default)]
    #[schema(value_type = String, example = "member")]
    role: Patch<String>,
    /// `false` ends every token and stops every key at once; `true` brings back the keys that were not
    /// revoked.
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

/// Which accounts a list shows: those that fit all of this.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Users {
    /// The name of their role.
    role: Option<String>,
    active: Option<bool>,
    /// Part of the e-mail address, whatever its case.
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

/// A named set of permissions.
#[derive(Serialize, ToSchema)]
pub(crate) struct Role {
    #[schema(example = "support")]
    name: String,
    #[schema(value_type = Vec<Permission>)]
    permissions: Permissions,
    /// Whether it came with the service, and can't be changed or deleted.
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

/// What a role allows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"permissions": ["users:read", "keys:read"]}))]
pub(crate) struct PutRole {
    permissions: Vec<Permission>,
}

impl PutRole {
    /// The name, which stands in the path, and the permissions.
    pub(crate) fn check(self, name: String) -> Result<(String, Permissions), Error> {
        let mut checks = Checks::default();
        checks.field("{name}", check_role_name(&name));
        checks.finish(Some((name, self.permissions.into_iter().collect())))
    }
}

/// Whether a role can have this name.
pub(crate) fn check_role_name(name: &str) -> Result<(), &'static str> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    match (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
        true => Ok(()),
        false => Err("must be 1 to 64 of the characters a-z, 0-9, `_` and `-`"),
    }
}
