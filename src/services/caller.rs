//! Caller of a use case: the user, the permissions and the origin of the request.

use std::net::IpAddr;

use crate::{
    db::{Aborted, Conn},
    domain::{
        error::Error,
        permission::{Authority, Permission},
    },
    models::user::{self, User},
};

/// Logged-in user.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Account as it was when the request arrived.
    pub user: User,
    /// Permissions of the account's role at that time.
    pub authority: Authority,
    pub origin: Origin,
}

/// Origin of a request.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Client address. `None` if it is unknown: the trusted proxy's header cannot be parsed.
    pub ip: Option<IpAddr>,
    pub request_id: Option<String>,
}

impl Caller {
    /// Returns the caller's permissions as of this transaction. A request with a slow body must not outlive its session
    /// or its role.
    pub(super) fn authority_now(&self, conn: &mut Conn) -> Result<Authority, Aborted> {
        let row = user::find_with_authority(conn, self.user.id)?;
        let (_, authority) = row
            .filter(|(user, _)| user.active && user.session_version == self.user.session_version)
            .ok_or(Error::InvalidToken)?;
        Ok(authority)
    }

    /// Returns the caller's permissions as of this transaction, or an error if `permission` is not among them.
    pub(super) fn authority_for(
        &self,
        conn: &mut Conn,
        permission: Permission,
    ) -> Result<Authority, Aborted> {
        let authority = self.authority_now(conn)?;
        require(authority, permission)?;
        Ok(authority)
    }
}

/// Returns an error if the caller lacks a permission.
pub fn require(authority: Authority, permission: Permission) -> Result<(), Error> {
    let name = permission.as_str();
    if authority.permissions.contain(permission) {
        Ok(())
    } else {
        Err(Error::PermissionDenied(
            format!("This requires the permission `{name}`, which your role does not have.").into(),
        ))
    }
}

/// Returns an error if the caller would grant or revoke permissions that they do not have themselves.
pub(super) fn require_covered(own: Authority, other: Authority) -> Result<(), Error> {
    if own.covers(other) {
        Ok(())
    } else {
        Err(Error::PermissionDenied(
            "You cannot assign or modify a role that has permissions you do not have.".into(),
        ))
    }
}
