//! Who asks for something, and from where.

use std::net::IpAddr;

use crate::{
    core::{
        error::Error,
        id::UserId,
        permission::{Authority, Permission},
    },
    db::Aborted,
    db::Conn,
    models::user::{self, User},
};

/// A person who has logged in.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user: User,
    /// What their role lets them do, as it was when the request came.
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
    /// It came over HTTP if this is not set, else from the command line.
    pub command_line: bool,
}

impl Origin {
    /// Whoever may run the program on this database.
    pub fn command_line() -> Self {
        Self {
            command_line: true,
            ..Self::default()
        }
    }
}

/// Refuses whoever lacks a permission.
pub fn require(authority: Authority, permission: Permission) -> Result<(), Error> {
    match authority.permissions.contain(permission) {
        true => Ok(()),
        false => Err(Error::PermissionDenied(
            format!(
                "This needs the permission `{}`, which your role does not have.",
                permission.as_str()
            )
            .into(),
        )),
    }
}

/// What somebody may do as of this transaction, in which they use `permission`: their role may have
/// changed since the request came.
pub(super) fn authority_now(
    conn: &mut Conn,
    caller: UserId,
    permission: Permission,
) -> Result<Authority, Aborted> {
    let (_, authority) = user::find_with_authority(conn, caller)?
        .filter(|(user, _)| user.active)
        .ok_or(Error::InvalidToken)?;
    require(authority, permission)?;
    Ok(authority)
}
