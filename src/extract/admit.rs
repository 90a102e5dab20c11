//! Lets a request in by its API key, or not.

use actix_web::{HttpMessage as _, HttpRequest, web};

use super::{
    client_address,
    credentials::{Presented, presented},
};
use crate::{
    core::{
        error::{Credential, Error},
        scope::Scope,
    },
    verification::engine::{Engine, VerifiedKey},
};

/// The good key that a request carries. It is noted with the request, and so is why there is none: for
/// the log.
pub(crate) async fn admit(request: &HttpRequest, scopes: &[Scope]) -> Result<VerifiedKey, Error> {
    let (Presented::KeyHeader(key) | Presented::Bearer(key)) =
        presented(request.headers())?.ok_or(Error::MissingCredentials(Credential::ApiKey))?;
    let engine = request
        .app_data::<web::Data<Engine>>()
        .ok_or_else(|| Error::internal("a route behind a key in an app without an engine"))?;
    let client_ip = client_address(request);
    match engine.verify(key, client_ip, scopes).await? {
        Ok(key) => {
            request.extensions_mut().insert(key.clone());
            Ok(key)
        }
        Err(refusal) => {
            let error = Error::from(&refusal);
            request.extensions_mut().insert(refusal);
            Err(error)
        }
    }
}
