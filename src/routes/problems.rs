//! Error responses that an operation's documentation names because they are specific to it. Errors that follow from
//! the form of an operation (a credential, a body, an id) are added by [`crate::openapi`].

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{Ref, RefOr, response::Response},
};

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:literal;)+) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                let shared = Ref::from_response_name(stringify!($name));
                BTreeMap::from([($status.to_owned(), RefOr::Ref(shared))])
            }
        }
    )+};
}

problems! {
    /// 401: the e-mail address or the password is wrong.
    InvalidCredentials = "401";
    /// 401: the token is not valid, or the current password is wrong.
    InvalidTokenOrPassword = "401";
    /// 403: the caller lacks the permission.
    PermissionDenied = "403";
    /// 409: the e-mail address already has an account.
    EmailTaken = "409";
    /// 409: the present state of the resource does not permit the change.
    Conflict = "409";
    /// 429: the client is throttled.
    TooManyAttempts = "429";
}
