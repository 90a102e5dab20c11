//! Every route of the OpenAPI document × everybody who may call it. A route without a rule fails.

use std::cell::Cell;

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    openapi::{document, operations},
    support::{Client, PASSWORD, PERMISSIONS, Reply, TestServer, path_of},
    tokens::{SECRET, claims_of, hs256, sign},
};

/// Whom a route answers with this status.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Everybody(u16),
    /// Whoever has logged in.
    Users(u16),
    /// Only whose thing it is. To all others it is not there.
    Owner(u16),
    /// Whose role has the permission.
    Operators(&'static str, u16),
    /// Whoever shows a good API key, which has this scope if it is one.
    Keys(&'static str, u16),
}

fn rule(method: &str, path: &str) -> Rule {
    use Rule::{Everybody, Keys, Operators, Owner, Users};
    match (method, path) {
        ("GET", "/protected") | (_, "/forward-auth") => Keys("", 200),
        ("POST", "/verify" | "/verify/batch") => Keys("keys:verify", 200),
        ("POST", "/auth/signup") => Everybody(201),
        ("POST", "/auth/login") => Everybody(200),
        ("GET", "/auth/me") => Users(200),
        ("POST", "/auth/password" | "/auth/logout") => Users(204),
        ("POST", "/api-keys") => Users(201),
        ("GET", "/api-keys") => Users(200),
        ("GET" | "PATCH" | "DELETE", "/api-keys/{id}") => Owner(200),
        ("POST", "/api-keys/{id}/rotate") => Owner(201),
        ("GET", "/admin/users") => Operators("users:read", 200),
        ("PATCH", "/admin/users/{id}") => Operators("users:write", 200),
        ("GET", "/admin/api-keys") => Operators("keys:read", 200),
        ("DELETE", "/admin/api-keys/{id}") => Operators("keys:write", 200),
        ("GET", "/admin/roles") => Operators("roles:write", 200),
        ("PUT", "/admin/roles/{name}") => Operators("roles:write", 201),
        ("DELETE", "/admin/roles/{name}") => Operators("roles:write", 204),
        ("GET", "/api-keys/{id}/usage") => Owner(200),
        ("GET", "/admin/usage") => Operators("usage:read", 200),
        ("GET", "/audit-log") => Users(200),
        ("GET", "/health/live" | "/health/ready") => Everybody(200),
        _ => panic!("{method} {path} has no rule: say here who may call it"),
    }
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Anonymous,
    GarbageToken,
    ExpiredToken,
    Deactivated,
    OtherMember,
    Owner,
    /// With a role that allows just this.
    RoleWith(&'static str),
    /// With a role that allows all but this.
    RoleWithout(&'static str),
    Admin,
}

impl Rule {
    fn callers(self) -> Vec<Caller> {
        let permissions = match self {
            Self::Operators(permission, _) => vec![permission],
            _ => PERMISSIONS.to_vec(),
        };
        let with_roles = permissions
            .into_iter()
            .flat_map(|p| [Caller::RoleWith(p), Caller::RoleWithout(p)]);
        [
            Caller::Anonymous,
            Caller::GarbageToken,
            Caller::ExpiredToken,
            Caller::Deactivated,
            Caller::OtherMember,
            Caller::Owner,
            Caller::Admin,
        ]
        .into_iter()
        .chain(with_roles)
        .collect()
    }

    /// Status, and code if it is a refusal.
    fn answer(self, caller: Caller) -> (u16, Option<&'static str>) {
        use Caller::{Admin, Anonymous, Deactivated, ExpiredToken, GarbageToken, RoleWith};
        match (self, caller) {
            (Self::Everybody(status), _) => (status, None),
            (_, Anonymous) => (401, Some("missing_credentials")),
            (Self::Keys(..), _) => (401, Some("invalid_api_key")),
            (_, GarbageToken | ExpiredToken | Deactivated) => (401, Some("invalid_token")),
            (Self::Users(status), _) => (status, None),
            (Self::Owner(status), Caller::Owner) => (status, None),
            (Self::Owner(_), _) => (404, Some("not_found")),
            (Self::Operators(_, status), Admin) => (status, None),
            (Self::Operators(permission, status), RoleWith(own)) if own == permission => {
                (status, None)
            }
            (Self::Operators(..), _) => (403, Some("permission_denied")),
        }
    }
}

/// Everybody, on one server.
struct Cast<'a> {
    server: &'a TestServer,
    expired: String,
    deactivated: Client,
    number: Cell<u32>,
}

impl<'a> Cast<'a> {
    fn new(server: &'a TestServer) -> Self {
        let admin = server.admin("admin@example.com");
        let owner = server.user("owner@example.com");
        server.user("other@example.com");
        let deactivated = server.user("deactivated@example.com");
        let path = format!("/admin/users/{}", deactivated.id());
        admin.patch_json(&path, &json!({"active": false}));
        for permission in PERMISSIONS {
            let without: Vec<_> = PERMISSIONS
                .into_iter()
                .filter(|p| *p != permission)
                .collect();
            server.operator(
                &admin,
                &address(Caller::RoleWith(permission)),
                &[permission],
            );
            server.operator(&admin, &address(Caller::RoleWithout(permission)), &without);
        }
        let mut claims = claims_of(&owner);
        claims["exp"] = json!(claims["iat"].as_i64().unwrap() - 1);
        Self {
            server,
            expired: sign(&hs256(), &claims, SECRET),
            deactivated,
            number: Cell::new(0),
        }
    }

    /// Logs in each time: some calls end every token.
    fn client(&self, caller: Caller) -> Client {
        let anyone = self.server.anonymous();
        match caller {
            Caller::Anonymous => anyone,
            Caller::GarbageToken => anyone.with_token("garbage"),
            Caller::ExpiredToken => anyone.with_token(&self.expired),
            Caller::Deactivated => self.deactivated.clone(),
            _ => anyone.log_in(&address(caller), PASSWORD),
        }
    }

    /// The path of something that is there, made for this call, and a body that would be taken.
    fn request(&self, method: &str, path: &str) -> (String, Value) {
        self.number.set(self.number.get() + 1);
        let number = self.number.get();
        let owner = || self.client(Caller::Owner);
        let admin = || self.client(Caller::Admin);
        let body = match (method, path) {
            ("POST", "/auth/signup") => {
                json!({"email": format!("new{number}@example.com"), "password": PASSWORD})
            }
            ("POST", "/auth/login") => json!({"email": "owner@example.com", "password": PASSWORD}),
            ("POST", "/auth/password") => {
                json!({"current_password": PASSWORD, "new_password": PASSWORD})
            }
            ("PUT", "/admin/roles/{name}") => json!({"permissions": []}),
            _ => json!({}),
        };
        let path = match path {
            "/admin/users/{id}" => path.replace(
                "{id}",
                &self.server.user(&format!("u{number}@example.com")).id(),
            ),
            "/admin/roles/{name}" => {
                let path = format!("/admin/roles/role{number}");
                if method == "DELETE" {
                    assert_eq!(
                        admin().put_json(&path, &json!({"permissions": []})).status,
                        201
                    );
                }
                path
            }
            path if path.contains("{id}") => {
                let key = path_of(&owner().create_key());
                path.replace("/api-keys/{id}", &key)
            }
            path => path.to_owned(),
        };
        (path, body)
    }
}

fn address(caller: Caller) -> String {
    let name = match caller {
        Caller::Owner => "owner".to_owned(),
        Caller::Admin => "admin".to_owned(),
        Caller::RoleWith(permission) => format!("with-{}", permission.replace(':', "-")),
        Caller::RoleWithout(permission) => format!("without-{}", permission.replace(':', "-")),
        _ => "other".to_owned(),
    };
    format!("{name}@example.com")
}

fn send(client: &Client, method: &str, path: &str, body: &Value) -> Reply {
    match method {
        "GET" | "DELETE" => client.send(method, path, ""),
        _ => client
            .with("content-type", "application/json")
            .send(method, path, body.to_string()),
    }
}

on_both_databases! {
    everybody_gets_what_the_rules_say,
    a_key_is_as_good_as_its_owner,
}

fn everybody_gets_what_the_rules_say(server: TestServer) {
    let cast = Cast::new(&server);
    for (method, path, _) in operations(&document()) {
        let rule = rule(&method, &path);
        for caller in rule.callers() {
            let (status, code) = rule.answer(caller);
            let (address, body) = cast.request(&method, &path);
            let client = cast.client(caller);
            let reply = send(&client, &method, &address, &body);
            let what = format!("{method} {path} by {caller:?}: {reply:?}");
            assert_eq!(reply.status, status, "{what}");
            let Some(code) = code else { continue };
            reply.assert_problem(status, code);
            // Who may not is told so whatever the body.
            if !matches!(&*method, "GET" | "DELETE") {
                let malformed = client.send(&method, &address, "{");
                assert_eq!(malformed.status, status, "{what}");
            }
        }
    }
}

fn a_key_is_as_good_as_its_owner(server: TestServer) {
    let admin = server.admin("admin@example.com");
    for (method, path, _) in operations(&document()) {
        let Rule::Keys(scope, status) = rule(&method, &path) else {
            continue;
        };
        let address = format!("{method}{}@example.com", path.replace('/', "."));
        let ada = server.user(&address);
        let given = json!({"role": if scope.is_empty() { "member" } else { "admin" }});
        let id = ada.id();
        admin.change_user(&id, &given);
        let scopes = if scope.is_empty() {
            vec![]
        } else {
            vec![scope]
        };
        let caller = server.caller(&ada.create_key_with(&json!({"scopes": scopes})));
        let body = match &*path {
            "/verify" => json!({"api_key": "x"}),
            _ => json!({"keys": [{"api_key": "x"}]}),
        };
        let ask = |caller: &Client| send(caller, &method, &path, &body).status;
        assert_eq!(ask(&caller), status);
        for (active, expected) in [(false, 401), (true, status)] {
            admin.change_user(&id, &json!({"active": active}));
            assert_eq!(ask(&caller), expected, "{method} {path}");
        }
        if !scope.is_empty() {
            let ada = server.anonymous().log_in(&address, PASSWORD);
            let caller = server.caller(&ada.create_key_with(&json!({"scopes": ["*"]})));
            send(&caller, &method, &path, &body).assert_problem(403, "insufficient_scope");
        }
    }
}
