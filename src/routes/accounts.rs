//! `/auth`: accounts and user tokens.

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
/// Makes an account. There is one per e-mail address, whatever its case or Unicode form.
#[utoipa::path(
    tag = "accounts",
    request_body = Signup,
    responses(
        (status = 201, description = "The account", body = Account),
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
/// Exchanges a password for a token, which goes into `Authorization: Bearer …`. Takes JSON, or the
/// OAuth 2 password form. After 10 failures for one account within 15 minutes, or 100 from one client
/// address, it answers 429, with the right password too.
#[utoipa::path(
    tag = "accounts",
    request_body(content(
        (Login = "application/json"),
        (PasswordGrant = "application/x-www-form-urlencoded"),
    )),
    responses(
        (
            status = 200, description = "The token", body = Token,
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

/// Who am I
///
/// The account of the token.
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
/// Every token that was issued before stops working. Wrong current passwords count as failed logins.
#[utoipa::path(
    tag = "accounts",
    security(("user_token" = [])),
    request_body = PasswordChange,
    responses(
        (status = 204, description = "Done"),
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
/// Every token of this account that was issued before stops working.
#[utoipa::path(
    tag = "accounts",
    security(("user_token" = [])),
    responses((status = 204, description = "Done")),
)]
#[post("/auth/logout")]
pub(crate) async fn log_out(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
) -> Result<HttpResponse, Error> {
    state.accounts.log_out(caller).await?;
    Ok(HttpResponse::NoContent().finish())
}
