//! Who asks for something, from where, and what they may do.

use std::net::IpAddr;

use crate::{
    db::{Aborted, Conn},
    domain::{
        error::Error,
        permission::{Authority, Permission},
    },
    models::user::{self, User},
};

/// A person who has logged in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account as it was when the request came.
    pub user: User,
    /// What the account's role let it do then.
    pub authority: Authority,
    pub origin: Origin,
}

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The client's address. `None` if it is not known: who vouches for it does so in a form that
    /// nobody can read.
    pub ip: Option<IpAddr>,
    pub request_id: Option<String>,
}

impl Caller {
    /// What the caller may do as of this transaction. A request whose body takes its time must not
    /// outlive the session that it came with, or the role.
    pub(super) fn authority_now(&self, conn: &mut Conn) -> Result<Authority, Aborted> {
        let now = user::find_with_authority(conn, self.user.id)?;
        let (_, authority) = now
            .filter(|(user, _)| user.active && user.session_version == self.user.session_version)
            .ok_or(Error::InvalidToken)?;
        Ok(authority)
    }

    /// The same, for what needs a permission.
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

/// Refuses whoever lacks a permission.
pub fn require(authority: Authority, permission: Permission) -> Result<(), Error> {
    let name = permission.as_str();
    match authority.permissions.contain(permission) {
        true => Ok(()),
        false => Err(Error::PermissionDenied(
            format!("This needs the permission `{name}`, which your role does not have.").into(),
        )),
    }
}

/// Refuses to let anybody give, or take from others, what they don't have themselves.
pub(super) fn require_covered(own: Authority, other: Authority) -> Result<(), Error> {
    match own.covers(other) {
        true => Ok(()),
        false => Err(Error::PermissionDenied(
            "This is about a role that allows something which you may not do yourself.".into(),
        )),
    }
}
