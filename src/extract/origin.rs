//! Where a request comes from, for the audit log and for the limits on logging in.

use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::HeaderName};

use super::client_address::client_address;
use crate::services::caller::Origin;

/// Names a request, in it and in its answer: as the caller did if it sent a sane name, else as the
/// outermost wrapper did.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl FromRequest for Origin {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(origin_of(request)))
    }
}

pub(super) fn origin_of(request: &HttpRequest) -> Origin {
    let request_id = request.headers().get(REQUEST_ID);
    Origin {
        ip: client_address(request),
        request_id: request_id
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned),
    }
}
