//! Extractors: the values that a handler can take as arguments.
//!
//! Only [`CurrentUser`], [`Operator`] and [`VerifiedKey`](crate::verification::engine::VerifiedKey) can reject a
//! request before its handler runs. All others are read by the handler. So errors have the documented order: first the
//! credential, then the permission, then the body.

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
pub(crate) use limit_headers::insert_limit_headers;
pub(crate) use origin::REQUEST_ID;
pub(crate) use page::{ListPage, Page, QueryString};
