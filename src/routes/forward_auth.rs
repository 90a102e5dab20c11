//! `/forward-auth`: for gateways, which ask before they pass a request on.

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, guard, web};
use utoipa::IntoParams;

use crate::{
    domain::{
        error::Error,
        scope::{MAX_SCOPES, Scope},
    },
    extract::{QueryString, admit, tell_limits},
    verification::limits::LimitStatus,
};

/// What follows it is the original request's, as Envoy appends it, and is not read: whoever sends the
/// original request must not have a say here.
const ORIGINAL: &str = "original=";

/// What the gateway asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document; it is read in its order")]
pub(crate) struct ForwardAuthQuery {
    /// What the key must be good for.
    #[param(value_type = Option<Vec<String>>, max_items = 64)]
    scope: Vec<String>,
    /// Comes last: what follows it is not read. For gateways that append the original path and query,
    /// such as Envoy.
    #[param(value_type = Option<String>)]
    original: String,
}

/// Decide about a gateway's request
///
/// For nginx `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`, Envoy `ext_authz`: reads the
/// original request's key. Answers any method.
#[utoipa::path(
    get,
    path = "/forward-auth",
    operation_id = "forward_auth",
    tag = "using a key",
    security(("api_key" = []), ("api_key_bearer" = [])),
    params(ForwardAuthQuery),
    responses(
        (
            status = 200, description = "The key is good: pass the request on, with these headers",
            headers(
                ("X-Api-Key-Id" = String, description = "The key's id"),
                ("X-Api-Key-Scopes" = String, description = "The key's scopes with blanks in between"),
                ("X-User-Id" = String, description = "Whose key it is"),
            ),
        ),
    ),
)]
pub(crate) async fn forward_auth(request: HttpRequest, query: QueryString) -> HttpResponse {
    let decided = decide(&request, &query).await;
    let mut response = decided.unwrap_or_else(HttpResponse::from_error);
    if let Some(status) = request.extensions().get::<LimitStatus>() {
        tell_limits(response.headers_mut(), status);
    }
    response
}

async fn decide(request: &HttpRequest, query: &QueryString) -> Result<HttpResponse, Error> {
    let scopes = match scopes(query.as_str()) {
        Ok(scopes) => scopes,
        Err(error) => {
            // The credential answers first.
            admit(request, &[], 0).await?;
            return Err(error);
        }
    };
    let key = admit(request, &scopes, 1).await?;
    Ok(HttpResponse::Ok()
        .insert_header(("x-api-key-id", key.id.to_string()))
        .insert_header(("x-api-key-scopes", key.scopes.as_str()))
        .insert_header(("x-user-id", key.user_id.to_string()))
        .finish())
}

/// With any method but `CONNECT`, to which a 200 would promise a tunnel (RFC 9110 section 9.3.6).
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    let any = web::route().guard(guard::Not(guard::Connect()));
    app.route("/forward-auth", any.to(forward_auth));
}

/// The scopes that are asked for. What is mistyped asks for nothing, and so must not pass.
fn scopes(query: &str) -> Result<Vec<Scope>, Error> {
    let original = match query.starts_with(ORIGINAL) {
        true => Some(0),
        false => query.find(&format!("&{ORIGINAL}")),
    };
    let own = &query[..original.unwrap_or(query.len())];
    let mut scopes = Vec::new();
    for (name, value) in form_urlencoded::parse(own.as_bytes()) {
        if name != "scope" {
            let pointer = format!("?{name}");
            return Err(Error::invalid_field(&pointer, "is not known here"));
        }
        let scope =
            Scope::parse(&value).map_err(|remedy| Error::invalid_field("?scope", remedy))?;
        scopes.push(scope);
        if scopes.len() > MAX_SCOPES {
            return Err(Error::invalid_field("?scope", "must be at most 64 scopes"));
        }
    }
    Ok(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_original_is_not_read() {
        let read = |query| {
            scopes(query).ok().map(|scopes| {
                scopes
                    .iter()
                    .map(|s| s.as_str().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        for (query, expected) in [
            ("", Some(vec![])),
            ("scope=a", Some(vec!["a"])),
            ("scope=a&scope=b%3Aread", Some(vec!["a", "b:read"])),
            ("original=/x?scope=b", Some(vec![])),
            ("scope=a&original=/x?y=1&scope=b", Some(vec!["a"])),
            ("scope=a&original=/x&original=/y&unknown", Some(vec!["a"])),
            ("scopes=a", None),
            ("scope", None),
            ("scope=", None),
            ("scope=a%20b", None),
            ("unoriginal=/x", None),
            ("Original=/x", None),
            ("scope=a&x=&original=", None),
        ] {
            let expected = expected.map(|e| e.into_iter().map(str::to_owned).collect());
            assert_eq!(read(query), expected, "{query}");
        }
    }
}
