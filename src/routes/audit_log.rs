//! Handler of `/audit-log`: changes, and who made them.

use actix_web::{HttpResponse, get, web};

use super::paged;
use crate::{
    domain::{error::Error, id::EventId},
    extract::{CurrentUser, ListPage, QueryString},
    schemas::audit_log::{Event, Events},
    state::State,
};

/// Read the audit log
///
/// Returns events, newest first: your own actions, and actions on your account and your keys. With the
/// permission `audit:read`, returns all events.
#[utoipa::path(
    operation_id = "list_audit_log",
    tag = "audit log",
    security(("user_token" = [])),
    params(Events, ListPage),
    responses((
        status = 200, description = "A page of events", body = Vec<Event>,
    )),
)]
#[get("/audit-log")]
pub(crate) async fn list(
    CurrentUser(caller): CurrentUser,
    state: web::Data<State>,
    query: QueryString,
) -> Result<HttpResponse, Error> {
    let (filter, page) = query.list::<Events, EventId>(caller.user.id)?;
    let filter = filter.check()?;
    let rows = state
        .audit
        .list(&caller, filter, page.before, page.rows())
        .await?;
    Ok(paged(&page, rows, |row| row.id, Event::from))
}
