//! Handler of `/forward-auth`: authorization decisions for gateways, before they forward a request.

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, guard, web};
use utoipa::IntoParams;

use crate::{
    domain::{
        error::Error,
        scope::{MAX_SCOPES, Scope},
    },
    extract::{QueryString, admit, insert_limit_headers},
    verification::limits::LimitStatus,
};

/// Parameter at which parsing stops. Everything after it is the path and query of the original request, as Envoy
/// appends them. The sender of the original request must not influence the decision.
const ORIGINAL: &str = "original=";

/// Query parameters of a gateway's request.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "documentation only; the handler parses the query in order"
)]
pub(crate) struct ForwardAuthQuery {
    /// Scope that the key must have. Repeat the parameter to require several.
    #[param(value_type = Option<Vec<String>>, max_items = 64)]
    scope: Vec<String>,
    /// Path and query of the original request, for gateways that append them, such as Envoy. Must be the last
    /// parameter: everything after it is ignored.
    #[param(value_type = Option<String>)]
    original: String,
}

/// Authorize a request for a gateway
///
/// For nginx `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth` and Envoy `ext_authz`. Reads the API key
/// from the headers of the original request. Accepts any method.
#[utoipa::path(
    get,
    path = "/forward-auth",
    operation_id = "forward_auth",
    tag = "using a key",
    security(("api_key" = []), ("api_key_bearer" = [])),
    params(ForwardAuthQuery),
    responses(
        (
            status = 200, description = "The key is valid: forward the request, with these headers",
            headers(
                ("X-Api-Key-Id" = String, description = "Id of the key"),
                ("X-Api-Key-Scopes" = String, description = "Scopes of the key, separated by spaces"),
                ("X-User-Id" = String, description = "Id of the account that owns the key"),
            ),
        ),
    ),
)]
pub(crate) async fn forward_auth(request: HttpRequest, query: QueryString) -> HttpResponse {
    let decision = decide(&request, &query).await;
    let mut response = decision.unwrap_or_else(HttpResponse::from_error);
    if let Some(status) = request.extensions().get::<LimitStatus>() {
        insert_limit_headers(response.headers_mut(), status);
    }
    response
}

async fn decide(request: &HttpRequest, query: &QueryString) -> Result<HttpResponse, Error> {
    let scopes = match scopes(query.as_str()) {
        Ok(scopes) => scopes,
        Err(error) => {
            // A credential error comes before a validation error.
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

/// Registers the route for every method but `CONNECT`: a 200 to `CONNECT` would announce a tunnel (RFC 9110
/// section 9.3.6).
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    let any = web::route().guard(guard::Not(guard::Connect()));
    app.route("/forward-auth", any.to(forward_auth));
}

/// Parses the required scopes. An unknown parameter is an error: a mistyped `scope` would otherwise require
/// nothing.
fn scopes(query: &str) -> Result<Vec<Scope>, Error> {
    let original = if query.starts_with(ORIGINAL) {
        Some(0)
    } else {
        query.find(&format!("&{ORIGINAL}"))
    };
    let gateway_query = &query[..original.unwrap_or(query.len())];
    let mut scopes = Vec::new();
    for (name, value) in form_urlencoded::parse(gateway_query.as_bytes()) {
        if name != "scope" {
            let pointer = format!("?{name}");
            return Err(Error::invalid_field(
                &pointer,
                "is not a parameter of this request",
            ));
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
    fn query_after_original_parameter_is_ignored() {
        let parse = |query| {
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
            assert_eq!(parse(query), expected, "{query}");
        }
    }
}
