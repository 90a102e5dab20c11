//! The errors that an operation's documentation names because only that operation has them. What
//! follows from its form (a credential, a body, an id) is added to every operation by
//! [`crate::openapi`].

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
    /// 401: the password is wrong.
    InvalidCredentials = "401";
    /// 401: the token is not good, or the current password is wrong.
    InvalidTokenOrPassword = "401";
    /// 403: not allowed.
    PermissionDenied = "403";
    /// 409: the address has an account.
    EmailTaken = "409";
    /// 409: what it is now stands against it.
    Conflict = "409";
    /// 429: too many attempts.
    TooManyAttempts = "429";
}
