//! Handlers of `/verify`: back ends in any language verify their clients' keys.

use actix_web::{HttpResponse, post, web};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    domain::error::Error,
    extract::Body,
    middleware::RequireApiKey,
    schemas::verification::{Verification, Verifications, VerifyKey, VerifyKeys},
    verification::engine::Engine,
};

/// Scope that a key needs to verify other keys.
const SCOPE: &str = "keys:verify";
/// Maximum number of keys of one call that are verified concurrently. One caller must not occupy all database
/// connections.
const MAX_CONCURRENT: usize = 4;

/// Verify an API key
///
/// For back ends: checks a client's key against the scopes that you require and the client's address.
///
/// Authenticate with a key of your own that has the scope `keys:verify`, which only an admin can grant.
#[utoipa::path(
    operation_id = "verify_key",
    tag = "using a key",
    security(("api_key" = []), ("api_key_bearer" = [])),
    request_body = VerifyKey,
    responses(
        (status = 200, description = "Valid or not, and the reason", body = Verification),
    ),
)]
#[post("/verify", wrap = "RequireApiKey::scope(SCOPE)")]
pub(crate) async fn verify(engine: web::Data<Engine>, body: Body) -> Result<HttpResponse, Error> {
    let input = body.json::<VerifyKey>().await?;
    let decision = engine.evaluate(&input.check()?).await?;
    Ok(HttpResponse::Ok().json(Verification::new(&decision)))
}

/// Verify up to 100 API keys
///
/// Verifies several keys in one call. The results are in the order of `keys`.
#[utoipa::path(
    operation_id = "verify_keys",
    tag = "using a key",
    security(("api_key" = []), ("api_key_bearer" = [])),
    request_body = VerifyKeys,
    responses(
        (status = 200, description = "Valid or not, and the reason, for each key", body = Verifications),
    ),
)]
#[post("/verify/batch", wrap = "RequireApiKey::scope(SCOPE)")]
pub(crate) async fn verify_batch(
    engine: web::Data<Engine>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let input = body.json::<VerifyKeys>().await?;
    let questions = input.check()?;
    let decisions: Vec<_> = stream::iter(&questions)
        .map(|question| engine.evaluate(question))
        .buffered(MAX_CONCURRENT)
        .try_collect()
        .await?;
    Ok(HttpResponse::Ok().json(Verifications::new(&decisions)))
}
