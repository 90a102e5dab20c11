//! The API key that a request was let in with.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload};

use crate::{domain::error::Error, verification::engine::VerifiedKey};

/// Works behind [`RequireApiKey`](crate::middleware::RequireApiKey). Anywhere else it answers 500: an
/// endpoint that only looks guarded must not answer at all.
impl FromRequest for VerifiedKey {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let key = request.extensions().get::<Self>().cloned();
        ready(key.ok_or_else(|| Error::internal("a handler wants a key outside RequireApiKey")))
    }
}
