//! Authentication of a request by its API key.

use actix_web::{HttpMessage as _, HttpRequest, web};

use super::{
    client_address,
    credentials::{Presented, presented},
};
use crate::{
    domain::{
        error::{Credential, Error},
        scope::Scope,
    },
    verification::engine::{Engine, Question, VerifiedKey},
};

/// Returns the API key of a request if it is valid for the request, and takes `cost` from its limits.
///
/// Stores in the request's extensions the key or, for the access log, the rejection, and the status of the limits for
/// [`insert_limit_headers`](super::insert_limit_headers).
pub(crate) async fn admit(
    request: &HttpRequest,
    scopes: &[Scope],
    cost: u64,
) -> Result<VerifiedKey, Error> {
    let (Presented::KeyHeader(key) | Presented::Bearer(key)) =
        presented(request.headers())?.ok_or(Error::MissingCredentials(Credential::ApiKey))?;
    let engine = request
        .app_data::<web::Data<Engine>>()
        .ok_or_else(|| Error::internal("the app data contains no verification engine"))?;
    let client_ip = client_address(request);
    let question = Question {
        presented: key,
        client_ip,
        scopes,
        cost,
    };
    let (admitted, status) = engine.admit(&question).await?;
    let mut extensions = request.extensions_mut();
    extensions.insert(status);
    match admitted {
        Ok(key) => {
            extensions.insert(key.clone());
            Ok(key)
        }
        Err(rejection) => {
            let error = Error::from(&rejection);
            extensions.insert(rejection);
            Err(error)
        }
    }
}
