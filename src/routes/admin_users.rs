//! Handlers of `/admin/users`: accounts, for operators.

use actix_web::{HttpResponse, get, patch, web};

use super::{paged, problems};
use crate::{
    domain::{error::Error, id::UserId},
    extract::{Body, ListPage, Operator, QueryString, UsersRead, UsersWrite},
    schemas::operator::{UpdateUser, UserAccount, Users},
    state::State,
};

/// List accounts
///
/// Returns accounts, newest first. Requires the permission `users:read`.
#[utoipa::path(
    operation_id = "list_users",
    tag = "operators",
    security(("user_token" = [])),
    params(Users, ListPage),
    responses(
        (status = 200, description = "A page of accounts", body = Vec<UserAccount>),
        problems::PermissionDenied,
    ),
)]
#[get("/admin/users")]
pub(crate) async fn list(
    Operator { caller, .. }: Operator<UsersRead>,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let (filter, page) = query.list::<Users, UserId>(caller.user.id)?;
    let users = state
        .users
        .list(filter.check()?, page.before, page.rows())
        .await?;
    Ok(paged(&page, users, |user| user.id, UserAccount::from))
}

/// Change an account
///
/// Assigns a role, or deactivates or activates the account. Requires the permission `users:write`.
///
/// You cannot assign a role that has permissions you do not have, or change an account that has permissions you
/// do not have. The last active admin can be neither demoted nor deactivated.
#[utoipa::path(
    operation_id = "update_user",
    tag = "operators",
    security(("user_token" = [])),
    params(("id" = Uuid, Path, description = "Id of the account")),
    request_body(content(
        (UpdateUser = "application/json"),
        (UpdateUser = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, description = "The changed account", body = UserAccount),
        problems::PermissionDenied,
        problems::Conflict,
    ),
)]
#[patch("/admin/users/{id}")]
pub(crate) async fn update(
    Operator { caller, .. }: Operator<UsersWrite>,
    state: web::Data<State>,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let id = UserId::parse(&id).ok_or(Error::NotFound)?;
    // Before the body is read: a permission error comes before errors of the body.
    state.users.require_changeable(&caller, id).await?;
    let change = body.merge_patch::<UpdateUser>().await?.check()?;
    let user = state.users.change(&caller, id, change).await?;
    Ok(HttpResponse::Ok().json(UserAccount::from(user)))
}
