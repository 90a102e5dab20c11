//! `/api-keys`: one's own keys.

use actix_web::{
    HttpResponse, delete, get,
    http::header::{CacheControl, CacheDirective, LINK, LOCATION},
    post, web,
};

use crate::{
    core::{error::Error, id::ApiKeyId},
    extract::{Body, CurrentUser, QueryString},
    schemas::api_key::{CreateApiKey, CreatedApiKey, Key, ListPage},
    state::State,
};

/// Create an API key
///
/// The answer is the only one that ever shows the whole key. No body is needed.
#[utoipa::path(
    tag = "API keys",
    security(("user_token" = [])),
    request_body = Option<CreateApiKey>,
    responses((
        status = 201, description = "The key", body = CreatedApiKey,
        headers(("Location" = String, description = "Where the key is found from now on")),
    )),
)]
#[post("/api-keys")]
pub(crate) async fn create(
    CurrentUser(user): CurrentUser,
    state: web::Data<State>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let choices = body.json_or_default::<CreateApiKey>().await?.check()?;
    let created = state.api_keys.create(user.id, choices).await?;
    Ok(HttpResponse::Created()
        .insert_header(CacheControl(vec![CacheDirective::NoStore]))
        .insert_header((LOCATION, format!("/api-keys/{}", created.1.id)))
        .json(CreatedApiKey::from(created)))
}

/// List your API keys
///
/// Newest first, revoked ones too. The `Link` header leads to the next page.
#[utoipa::path(
    tag = "API keys",
    security(("user_token" = [])),
    params(ListPage),
    responses((
        status = 200, description = "A page of keys", body = Vec<Key>,
        headers(("Link" = String, description = "`<…>; rel=\"next\"`, if there is a next page (RFC 8288)")),
    )),
)]
#[get("/api-keys")]
pub(crate) async fn list(
    CurrentUser(user): CurrentUser,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let asked: ListPage = query.parse()?;
    let page = query.page(user.id, asked.limit.as_deref(), asked.cursor.as_deref())?;
    let mut keys = state
        .api_keys
        .list(user.id, page.before, page.rows())
        .await?;
    let mut response = HttpResponse::Ok();
    if let Some(next) = page.cut(&mut keys, |key| key.id) {
        response.insert_header((LINK, next));
    }
    Ok(response.json(keys.into_iter().map(Key::from).collect::<Vec<_>>()))
}

/// Look at an API key
#[utoipa::path(
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "The key's id")),
    responses((status = 200, description = "The key", body = Key)),
)]
#[get("/api-keys/{id}")]
pub(crate) async fn get(
    CurrentUser(user): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let key = state.api_keys.get(user.id, id).await?;
    Ok(HttpResponse::Ok().json(Key::from(key)))
}

/// Revoke an API key
///
/// For good. Once this has answered, the key is refused. Again is the same.
#[utoipa::path(
    tag = "API keys",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "The key's id")),
    responses((status = 200, description = "The revoked key", body = Key)),
)]
#[delete("/api-keys/{id}")]
pub(crate) async fn revoke(
    CurrentUser(user): CurrentUser,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id = ApiKeyId::parse(&id).ok_or(Error::NotFound)?;
    let key = state.api_keys.revoke(user.id, id).await?;
    Ok(HttpResponse::Ok().json(Key::from(key)))
}
