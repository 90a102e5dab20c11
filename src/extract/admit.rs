//! Lets a request in by its API key, or not.

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

/// The good key that a request carries. It is noted with the request, and so is why there is none, for
/// the log, and how it stands with the key's limits, for [`tell_limits`].
pub(crate) async fn admit(
    request: &HttpRequest,
    scopes: &[Scope],
    cost: u64,
) -> Result<VerifiedKey, Error> {
    let (Presented::KeyHeader(key) | Presented::Bearer(key)) =
        presented(request.headers())?.ok_or(Error::MissingCredentials(Credential::ApiKey))?;
    let engine = request
        .app_data::<web::Data<Engine>>()
        .ok_or_else(|| Error::internal("a route behind a key in an app without an engine"))?;
    let client_ip = client_address(request);
    let question = Question {
        presented: key,
        client_ip,
        scopes,
        cost,
    };
    let (admitted, status) = engine.admit(&question).await?;
    let mut noted = request.extensions_mut();
    noted.insert(status);
    match admitted {
        Ok(key) => {
            noted.insert(key.clone());
            Ok(key)
        }
        Err(refusal) => {
            let error = Error::from(&refusal);
            noted.insert(refusal);
            Err(error)
        }
    }
}
