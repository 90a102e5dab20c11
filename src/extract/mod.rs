//! What a handler can ask for.
//!
//! Only [`CurrentUser`], an [`Operator`] and a [`VerifiedKey`](crate::verification::engine::VerifiedKey) can refuse
//! a request before its handler runs. The rest is taken as it comes and read by the handler, so that
//! the credential answers first, then the permission, then the body: the order of the contract.

mod admit;
mod body;
mod client_address;
pub(crate) mod credentials;
mod current_user;
mod decode;
mod limit_headers;
mod origin;
mod page;
mod verified_key;

pub(crate) use admit::admit;
pub(crate) use body::{Body, MediaType};
pub(crate) use client_address::client_address;
pub(crate) use current_user::{
    CurrentUser, KeysRead, KeysWrite, Operator, RolesWrite, UsageRead, UsersRead, UsersWrite,
};
pub(crate) use limit_headers::tell_limits;
pub(crate) use origin::REQUEST_ID;
pub(crate) use page::{ListPage, Page, QueryString};
