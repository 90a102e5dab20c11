//! Extractor of the API key that a request was authenticated with.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload};

use crate::{domain::error::Error, verification::engine::VerifiedKey};

/// Extracts the key behind [`RequireApiKey`](crate::middleware::RequireApiKey). Anywhere else the response is 500: an
/// endpoint that only looks protected must not respond normally.
impl FromRequest for VerifiedKey {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let key = request.extensions().get::<Self>().cloned();
        ready(key.ok_or_else(|| {
            Error::internal("a handler extracts VerifiedKey without the middleware RequireApiKey")
        }))
    }
}
