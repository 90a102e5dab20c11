//! Handlers of `/admin/roles`: named sets of permissions.

use actix_web::{HttpResponse, delete, get, put, web};

use super::{paged, problems};
use crate::{
    domain::{error::Error, id::RoleId},
    extract::{Body, ListPage, Operator, QueryString, RolesWrite},
    schemas::{
        NoFilter,
        operator::{PutRole, Role, check_role_name},
    },
    state::State,
};

/// List roles
///
/// Returns roles newest first, the built-in ones last. Requires the permission `roles:write`.
#[utoipa::path(
    operation_id = "list_roles",
    tag = "operators",
    security(("user_token" = [])),
    params(ListPage),
    responses(
        (status = 200, description = "A page of roles", body = Vec<Role>),
        problems::PermissionDenied,
    ),
)]
#[get("/admin/roles")]
pub(crate) async fn list(
    Operator { caller, .. }: Operator<RolesWrite>,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let (NoFilter {}, page) = query.list::<_, RoleId>(caller.user.id)?;
    let roles = state.roles.list(page.before, page.rows()).await?;
    Ok(paged(&page, roles, |role| role.id, Role::from))
}

/// Create or change a role
///
/// Creates the role, or replaces its permissions. Requires the permission `roles:write`. You cannot create or
/// modify a role that has permissions you do not have.
#[utoipa::path(
    operation_id = "put_role",
    tag = "operators",
    security(("user_token" = [])),
    params(("name" = String, Path, description = "Name of the role: 1 to 64 of the characters a-z, 0-9, `_` and `-`")),
    request_body = PutRole,
    responses(
        (status = 200, description = "The changed role", body = Role),
        (status = 201, description = "The new role", body = Role),
        problems::PermissionDenied,
        problems::Conflict,
    ),
)]
#[put("/admin/roles/{name}")]
pub(crate) async fn put(
    Operator { caller, .. }: Operator<RolesWrite>,
    state: web::Data<State>,
    name: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Error> {
    let name = name.into_inner();
    if check_role_name(&name).is_ok() {
        // Before the body is read: a permission error comes before errors of the body.
        let changeable = state.roles.require_changeable(&caller, name.clone());
        changeable.await?;
    }
    let (name, permissions) = body.json::<PutRole>().await?.check(name)?;
    let (role, is_new) = state.roles.put(&caller, name, permissions).await?;
    let mut response = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(response.json(Role::from(role)))
}

/// Delete a role
///
/// Requires the permission `roles:write`. A built-in role and a role that an account has cannot be deleted.
#[utoipa::path(
    operation_id = "delete_role",
    tag = "operators",
    security(("user_token" = [])),
    params(("name" = String, Path, description = "Name of the role")),
    responses(
        (status = 204, description = "The role was deleted"),
        problems::PermissionDenied,
        problems::Conflict,
    ),
)]
#[delete("/admin/roles/{name}")]
pub(crate) async fn delete(
    Operator { caller, .. }: Operator<RolesWrite>,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse, Error> {
    check_role_name(&name).map_err(|_| Error::NotFound)?;
    state.roles.delete(&caller, name.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}
