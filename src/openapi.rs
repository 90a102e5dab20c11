//! The OpenAPI document: its head, the ways to authenticate, and the errors that follow from the form
//! of an operation, declared here once.

use actix_web::App;
use utoipa::{
    OpenApi as _, ToSchema,
    openapi::{
        Components, Content, Header, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Response,
        ResponseBuilder, Type,
        path::{Operation, Parameter, ParameterIn},
        security::{
            ApiKey, ApiKeyValue, Flow, HttpAuthScheme, HttpBuilder, OAuth2, Password, Scopes,
            SecurityScheme,
        },
    },
};
use utoipa_actix_web::AppExt as _;

use crate::{
    core::error::{FieldError, Problem},
    routes::{self, forward_auth},
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "latchkey",
        description = "API key management.\n\n\
            1. **Sign up**, then press *Authorize* and log in under `user_token`: e-mail address and password, nothing else.\n\
            2. **Create an API key** and copy `api_key` from the answer, and its `id`. The example makes a key \
            that may read orders, from this machine and one subnet, for 30 days.\n\
            3. Press *Authorize* again, paste it under `api_key`, and **call the protected endpoint**.\n\
            4. **Rotate the key**: the example gives the old one a day of grace, in which both are good.\n\
            5. **Change** the new key, or **revoke** it, and call again.\n\
            6. See in the **audit log** what you did.\n\n\
            Back ends **verify** their clients' keys with a key of their own that has the scope `keys:verify`, \
            which an admin gives; gateways ask at `/forward-auth`.\n\n\
            What stands under **operators** needs a role that allows it. The first admin is made on the \
            command line: `latchkey admin grant EMAIL`.\n\n\
            Errors are `application/problem+json` (RFC 9457); `code` is stable and machine-readable.",
    ),
    tags(
        (name = "accounts", description = "Sign up, log in, log out"),
        (name = "API keys", description = "Your own keys"),
        (name = "using a key", description = "What callers of a protected API do"),
        (name = "audit log", description = "What was changed, by whom"),
        (name = "operators", description = "Everybody's accounts and keys, and roles: for those whose role allows it"),
        (name = "health", description = "For load balancers and supervisors"),
    ),
    paths(forward_auth::forward_auth),
    components(schemas(Problem, FieldError)),
)]
struct Head;

/// An error that several operations have.
struct SharedError {
    name: &'static str,
    status: &'static str,
    description: &'static str,
    /// The header that comes with it, and what it says.
    header: Option<(&'static str, &'static str)>,
}

impl SharedError {
    const fn new(name: &'static str, status: &'static str, description: &'static str) -> Self {
        let header = match status.as_bytes() {
            b"401" => Some((
                "WWW-Authenticate",
                "How to authenticate (RFC 9110 section 11.6.1)",
            )),
            b"429" | b"503" => Some(("Retry-After", "Whole seconds to wait")),
            _ => None,
        };
        Self {
            name,
            status,
            description,
            header,
        }
    }

    fn response(&self) -> Response {
        let problem = Content::new(Some(Ref::from_schema_name(Problem::name())));
        let mut response = ResponseBuilder::new()
            .description(self.description)
            .content("application/problem+json", problem);
        if let Some((name, description)) = self.header {
            response = response.header(name, text_header(description));
        }
        response.build()
    }
}

const SHARED: [SharedError; 15] = [
    SharedError::new(
        "BadRequest",
        "400",
        "`invalid_json`, `invalid_cursor`, `ambiguous_credentials`, `invalid_request`",
    ),
    SharedError::new(
        "InvalidToken",
        "401",
        "`missing_credentials`, `invalid_token`: log in again",
    ),
    SharedError::new(
        "InvalidApiKey",
        "401",
        "`missing_credentials`, `invalid_api_key`: unknown, malformed, revoked, expired and disabled keys answer the same",
    ),
    SharedError::new(
        "InvalidCredentials",
        "401",
        "`invalid_credentials`: the address or the password is wrong",
    ),
    SharedError::new(
        "InvalidTokenOrPassword",
        "401",
        "`missing_credentials`, `invalid_token`; `invalid_credentials`: the current password is wrong",
    ),
    SharedError::new("PermissionDenied", "403", "`permission_denied`"),
    SharedError::new(
        "KeyNotAllowed",
        "403",
        "`ip_not_allowed`: not from this address; `insufficient_scope`: `missing_scopes` says what the key lacks",
    ),
    SharedError::new(
        "NotFound",
        "404",
        "`not_found`: not there, or somebody else's",
    ),
    SharedError::new(
        "EmailTaken",
        "409",
        "`email_taken`: the address has an account",
    ),
    SharedError::new(
        "Conflict",
        "409",
        "`conflict`: what it is now stands against it; `detail` says what",
    ),
    SharedError::new(
        "PayloadTooLarge",
        "413",
        "`payload_too_large`: more than 64 KiB",
    ),
    SharedError::new("UnsupportedMediaType", "415", "`unsupported_media_type`"),
    SharedError::new(
        "ValidationFailed",
        "422",
        "`validation_failed`: `errors` says what is wrong, and where",
    ),
    SharedError::new(
        "TooManyAttempts",
        "429",
        "`too_many_attempts`: too many failures, wait",
    ),
    SharedError::new(
        "Unavailable",
        "503",
        "`unavailable`: the database is out of reach, or the server saturated",
    ),
];

/// The whole document.
pub fn document() -> OpenApi {
    let (_, mut document) = App::new()
        .into_utoipa_app()
        .openapi(Head::openapi())
        .configure(routes::table)
        .split_for_parts();
    let components = document.components.get_or_insert_default();
    add_security_schemes(components);
    for error in &SHARED {
        let response = error.response().into();
        components.responses.insert(error.name.to_owned(), response);
    }
    if let Some(item) = document.paths.paths.get_mut("/forward-auth") {
        add_every_method(item);
    }
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            add_link_to_next_page(operation);
            add_shared_errors(path, operation);
            let responses = operation.responses.responses.values_mut();
            responses.for_each(add_request_id);
        }
        if let Some(put) = &mut item.put {
            // What is put need not be there.
            put.responses.responses.remove("404");
        }
    }
    let shared = &mut document.components.get_or_insert_default().responses;
    shared.values_mut().for_each(add_request_id);
    document
}

fn add_security_schemes(components: &mut Components) {
    let login = Flow::Password(Password::new("/auth/login", Scopes::new()));
    let user_token = OAuth2::with_description([login], "A person's token, from POST /auth/login");
    let key = ApiKeyValue::with_description("x-api-key", "A key from POST /api-keys");
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The same key, as many SDKs send it"))
        .build();
    components.add_security_scheme("user_token", SecurityScheme::OAuth2(user_token));
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    components.add_security_scheme("api_key_bearer", SecurityScheme::Http(bearer));
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

/// The same with any other method that the document knows, each under a name of its own.
fn add_every_method(item: &mut PathItem) {
    let Some(get) = item.get.clone() else { return };
    let with = |method: &str| {
        let mut operation = get.clone();
        let name = get.operation_id.as_deref().unwrap_or_default();
        operation.operation_id = Some(format!("{name}_{method}"));
        Some(operation)
    };
    item.post = with("post");
    item.put = with("put");
    item.patch = with("patch");
    item.delete = with("delete");
}

/// What leads from one page of a list to the next.
fn add_link_to_next_page(operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let is_cursor = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.name == "cursor");
    let page = operation.responses.responses.get_mut("200");
    if let (true, Some(RefOr::T(page))) = (parameters.iter().any(is_cursor), page) {
        let description = "`<…>; rel=\"next\"`, if there is a next page (RFC 8288)";
        page.headers
            .insert("Link".to_owned(), text_header(description).into());
    }
}

/// What every answer has.
fn add_request_id(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response {
        let description = "The request's own, if it sent a sane one";
        let header = text_header(description).into();
        response.headers.insert("X-Request-Id".to_owned(), header);
    }
}

fn text_header(description: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(Type::String));
    header.description = Some(description.to_owned());
    header
}

/// What can go wrong with any operation of this form.
fn add_shared_errors(path: &str, operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let has = |place| {
        let inline = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.parameter_in == place);
        parameters.iter().any(inline)
    };
    let security = serde_json::to_string(&operation.security).unwrap_or_default();
    let needs = |scheme: &str| security.contains(&format!("\"{scheme}\""));
    let (in_path, in_query) = (has(ParameterIn::Path), has(ParameterIn::Query));
    let (user, key) = (needs("user_token"), needs("api_key"));
    let body = operation.request_body.is_some();

    let mut add = |applies: bool, name: &str| {
        let shared = SHARED.iter().find(|shared| shared.name == name);
        if let Some(shared) = shared.filter(|_| applies) {
            let reference = RefOr::Ref(Ref::from_response_name(name));
            let responses = &mut operation.responses.responses;
            responses
                .entry(shared.status.to_owned())
                .or_insert(reference);
        }
    };
    add(user || key || body || in_query, "BadRequest");
    add(user, "InvalidToken");
    add(key, "InvalidApiKey");
    add(in_path, "NotFound");
    add(body, "PayloadTooLarge");
    add(body, "UnsupportedMediaType");
    add(body || in_query, "ValidationFailed");
    add(path != "/health/live", "Unavailable");
}
