//! `/audit-log`: what was changed, by whom.

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
/// Newest first: what you did, and what was done to your account and your keys; with `audit:read`
/// everything.
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
    let (asked, page) = query.list::<Events, EventId>(caller.user.id)?;
    let filter = asked.check()?;
    let rows = state
        .audit
        .list(&caller, filter, page.before, page.rows())
        .await?;
    Ok(paged(&page, rows, |row| row.id, Event::from))
}
