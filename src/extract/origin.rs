//! Origin of a request: client address and request id, for the audit log and for the login throttle.

use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::HeaderName};

use super::client_address::client_address;
use crate::services::caller::Origin;

/// Header with the request id, in requests and responses. The outermost middleware sets it: to the client's id if that
/// is well-formed, otherwise to a new one.
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
