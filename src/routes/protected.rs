//! Handler of `/protected`: the example of an endpoint behind an API key.

use actix_web::{HttpResponse, get};

use crate::{
    middleware::RequireApiKey,
    schemas::api_key::{CallingKey, Protected},
    verification::engine::VerifiedKey,
};

/// Call a protected endpoint
///
/// Example of an endpoint that requires an API key. Send the key in `x-api-key` or as `Authorization: Bearer`.
#[utoipa::path(
    tag = "using a key",
    security(("api_key" = []), ("api_key_bearer" = [])),
    responses(
        (status = 200, description = "The key is valid", body = Protected),
    ),
)]
#[get("/protected", wrap = "RequireApiKey::new()")]
pub(crate) async fn protected(key: VerifiedKey) -> HttpResponse {
    HttpResponse::Ok().json(Protected {
        message: "The key is valid.",
        key: CallingKey::new(&key),
        user_id: key.user_id,
    })
}
