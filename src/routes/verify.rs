//! `/verify`: for back ends in any language, which ask whether their clients' keys are good.

use actix_web::{HttpResponse, post, web};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    domain::error::Error,
    extract::Body,
    middleware::RequireApiKey,
    schemas::verification::{Verification, Verifications, VerifyKey, VerifyKeys},
    verification::engine::Engine,
};

/// What a key must be good for, to ask about others.
const SCOPE: &str = "keys:verify";
/// How many keys of one call may be looked up at once: one caller must not take all connections to the
/// database.
const AT_ONCE: usize = 4;

/// Verify an API key
///
/// For back ends: whether a client's key is good, for what you need, from where the client calls. You
/// show a key of your own that has the scope `keys:verify`, which an admin gives.
#[utoipa::path(
    operation_id = "verify_key",
    tag = "using a key",
    security(("api_key" = []), ("api_key_bearer" = [])),
    request_body = VerifyKey,
    responses(
        (status = 200, description = "Good or not, and why", body = Verification),
    ),
)]
#[post("/verify", wrap = "RequireApiKey::scope(SCOPE)")]
pub(crate) async fn verify(engine: web::Data<Engine>, body: Body) -> Result<HttpResponse, Error> {
    let asked = body.json::<VerifyKey>().await?;
    let decision = engine.evaluate(&asked.check()?).await?;
    Ok(HttpResponse::Ok().json(Verification::new(&decision)))
}

/// Verify up to 100 API keys
///
/// The same for several keys at once. The answers come in the order of the questions.
#[utoipa::path(
    operation_id = "verify_keys",
    tag = "using a key",
    security(("api_key" = []), ("api_key_bearer" = [])),
    request_body = VerifyKeys,
    responses(
        (status = 200, description = "Good or not, and why, of each", body = Verifications),
    ),
)]
#[post("/verify/batch", wrap = "RequireApiKey::scope(SCOPE)")]
pub(crate) async fn verify_batch(
    engine: web::Data<Engine>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let asked = body.json::<VerifyKeys>().await?;
    let questions = asked.check()?;
    let verdicts: Vec<_> = stream::iter(&questions)
        .map(|question| engine.evaluate(question))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(HttpResponse::Ok().json(Verifications::new(&verdicts)))
}
