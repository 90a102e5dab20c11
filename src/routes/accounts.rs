//! Handlers of `/auth`: accounts and user tokens.

use actix_web::{
    HttpResponse, get,
    http::header::{CacheControl, CacheDirective},
    post, web,
};

use super::problems;
use crate::{
    domain::error::Error,
    extract::{Body, CurrentUser, MediaType},
    schemas::account::{Account, Login, PasswordChange, PasswordGrant, Signup, Token},
    services::caller::Origin,
    state::State,
};

/// Sign up
///
/// Creates an account. Each e-mail address can have one account; letter case and Unicode form do not count.
#[utoipa::path(
    tag = "accounts",
    request_body = Signup,
    responses(
        (status = 201, description = "The new account", body = Account),
        problems::PermissionDenied,
        problems::EmailTaken,
        problems::TooManyAttempts,
    ),
)]
#[post("/auth/signup")]
pub(crate) async fn sign_up(
    state: web::Data<State>,
    origin: Origin,
    body: Body,
) -> Result<HttpResponse, Error> {
    state.accounts.require_signup_open()?;
    let (email, password) = body.json::<Signup>().await?.check()?;
    let user = state.accounts.sign_up(email, password, origin).await?;
    Ok(HttpResponse::Created().json(Account::from(user)))
}

/// Log in
///
/// Exchanges an e-mail address and a password for a user token. Send the token as `Authorization: Bearer …`.
///
/// Accepts JSON or the OAuth 2 password form. After 10 failed logins for one account within 15 minutes, or 100
/// from one client address, responds 429 `too_many_attempts`, also to the correct password.
#[utoipa::path(
    tag = "accounts",
    request_body(content(
        (Login = "application/json"),
        (PasswordGrant = "application/x-www-form-urlencoded"),
    )),
    responses(
        (
            status = 200, description = "The user token", body = Token,
            headers(("Cache-Control" = String, description = "`no-store`")),
        ),
        problems::InvalidCredentials,
        problems::TooManyAttempts,
    ),
)]
#[post("/auth/login")]
pub(crate) async fn log_in(
    state: web::Data<State>,
    origin: Origin,
    body: Body,
) -> Result<HttpResponse, Error> {
    let (email, password) = match body.media_type() {
        Some(MediaType::Json) => body.json::<Login>().await?.check()?,
        Some(MediaType::Form) => body.form::<PasswordGrant>().await?.check()?,
        _ => {
            return Err(Error::UnsupportedMediaType(
                "application/json or application/x-www-form-urlencoded",
            ));
        }
    };
    let issued = state.accounts.log_in(&email, password, &origin).await?;
    Ok(HttpResponse::Ok()
        .insert_header(CacheControl(vec![CacheDirective::NoStore]))
        .json(Token::new(&issued.token, issued.expires_in_seconds)))
}

/// Get your account
///
/// Returns the account that the user token belongs to.
#[utoipa::path(
    tag = "accounts",
    security(("user_token" = [])),
    responses((status = 200, description = "The account", body = Account)),
)]
#[get("/auth/me")]
pub(crate) async fn me(CurrentUser(caller): CurrentUser) -> HttpResponse {
    HttpResponse::Ok().json(Account::from(caller.user))
}

/// Change the password
///
/// Invalidates every token of the account that was issued before. A wrong current password counts as a failed
/// login.
#[utoipa::path(
    tag = "accounts",
    security(("user_token" = [])),
    request_body = PasswordChange,
    responses(
        (status = 204, description = "The password was changed"),
        problems::InvalidTokenOrPassword,
        problems::TooManyAttempts,
    ),
)]
#[post("/auth/password")]
pub(crate) async fn change_password(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let (current, new) = body.json::<PasswordChange>().await?.check()?;
    state.accounts.change_password(caller, current, new).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Log out
///
/// Invalidates every token of the account that was issued before.
#[utoipa::path(
    tag = "accounts",
    security(("user_token" = [])),
    responses((status = 204, description = "The tokens were invalidated")),
)]
#[post("/auth/logout")]
pub(crate) async fn log_out(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
) -> Result<HttpResponse, Error> {
    state.accounts.log_out(caller).await?;
    Ok(HttpResponse::NoContent().finish())
}
