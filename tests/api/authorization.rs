//! Authorization matrix: every route of the OpenAPI document, called by every kind of caller.
//!
//! A route without a rule fails the test.

use std::cell::Cell;

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    openapi::{document, operations},
    support::{Client, PASSWORD, PERMISSIONS, Reply, TestServer, path_of},
    tokens::{SECRET, claims_of, hs256, sign},
};

/// Callers that a route accepts, and the status that it returns to them.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Everybody(u16),
    /// Every user who has logged in.
    Users(u16),
    /// Only the owner of the resource. Everyone else gets 404.
    Owner(u16),
    /// Users whose role has this permission.
    Operators(&'static str, u16),
    /// Callers with a valid API key that has this scope. The empty scope means that none is required.
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
        _ => panic!("{method} {path} has no rule: add one that names its callers and its status"),
    }
}

/// Kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Anonymous,
    GarbageToken,
    ExpiredToken,
    Deactivated,
    OtherMember,
    Owner,
    /// User with a role that has this permission only.
    RoleWith(&'static str),
    /// User with a role that has every permission except this one.
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

    /// Returns the expected status, and the expected error code if the caller is rejected.
    fn expected_response(self, caller: Caller) -> (u16, Option<&'static str>) {
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
            (Self::Operators(permission, status), RoleWith(granted)) if granted == permission => {
                (status, None)
            }
            (Self::Operators(..), _) => (403, Some("permission_denied")),
        }
    }
}

/// Accounts of every kind of caller, on one server.
struct Accounts<'a> {
    server: &'a TestServer,
    expired: String,
    deactivated: Client,
    number: Cell<u32>,
}

impl<'a> Accounts<'a> {
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

    /// Returns a client for this caller. It logs in each time, because some calls invalidate every token.
    fn client(&self, caller: Caller) -> Client {
        let anonymous = self.server.anonymous();
        match caller {
            Caller::Anonymous => anonymous,
            Caller::GarbageToken => anonymous.with_token("garbage"),
            Caller::ExpiredToken => anonymous.with_token(&self.expired),
            Caller::Deactivated => self.deactivated.clone(),
            _ => anonymous.log_in(&address(caller), PASSWORD),
        }
    }

    /// Returns the path of a resource created for this call, and a body that the route accepts.
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
    every_route_returns_the_expected_status_to_every_caller,
    key_of_a_deactivated_owner_is_rejected_by_every_key_route,
}

fn every_route_returns_the_expected_status_to_every_caller(server: TestServer) {
    let accounts = Accounts::new(&server);
    for (method, path, _) in operations(&document()) {
        let rule = rule(&method, &path);
        for caller in rule.callers() {
            let (status, code) = rule.expected_response(caller);
            let (address, body) = accounts.request(&method, &path);
            let client = accounts.client(caller);
            let reply = send(&client, &method, &address, &body);
            let context = format!("{method} {path} by {caller:?}: {reply:?}");
            assert_eq!(reply.status, status, "{context}");
            let Some(code) = code else { continue };
            reply.assert_problem(status, code);
            // A caller without access is rejected whatever the body.
            if !matches!(&*method, "GET" | "DELETE") {
                let malformed = client.send(&method, &address, "{");
                assert_eq!(malformed.status, status, "{context}");
            }
        }
    }
}

fn key_of_a_deactivated_owner_is_rejected_by_every_key_route(server: TestServer) {
    let admin = server.admin("admin@example.com");
    for (method, path, _) in operations(&document()) {
        let Rule::Keys(scope, status) = rule(&method, &path) else {
            continue;
        };
        let address = format!("{method}{}@example.com", path.replace('/', "."));
        let ada = server.user(&address);
        let change = json!({"role": if scope.is_empty() { "member" } else { "admin" }});
        let id = ada.id();
        admin.change_user(&id, &change);
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
        let status_for = |caller: &Client| send(caller, &method, &path, &body).status;
        assert_eq!(status_for(&caller), status);
        for (active, expected) in [(false, 401), (true, status)] {
            admin.change_user(&id, &json!({"active": active}));
            assert_eq!(status_for(&caller), expected, "{method} {path}");
        }
        if !scope.is_empty() {
            let ada = server.anonymous().log_in(&address, PASSWORD);
            let caller = server.caller(&ada.create_key_with(&json!({"scopes": ["*"]})));
            send(&caller, &method, &path, &body).assert_problem(403, "insufficient_scope");
        }
    }
}
