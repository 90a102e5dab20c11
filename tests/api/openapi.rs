//! The OpenAPI document: committed, valid, and consistent with the running service.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    on_both_databases,
    support::{Client, PASSWORD, Reply, TestServer},
};

pub fn document() -> Value {
    let text = latchkey::openapi::document().to_json().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn committed_openapi_document_matches_the_code() {
    let committed = std::fs::read_to_string("openapi/openapi.json").unwrap_or_default();
    let current = latchkey::openapi::document().to_pretty_json().unwrap() + "\n";
    assert!(
        committed == current,
        "openapi/openapi.json has drifted; regenerate it with\n  cargo run -- openapi > openapi/openapi.json"
    );
}

#[test]
fn openapi_document_is_version_3_1_and_every_reference_resolves() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    // The specification allows a relative `tokenUrl`, but this parser does not.
    let absolute = document
        .to_string()
        .replace("\"tokenUrl\":\"/auth", "\"tokenUrl\":\"http://x/auth");
    oas3::from_json(absolute).unwrap();
    let mut references = Vec::new();
    collect(&document, "$ref", &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.as_str().unwrap().trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{pointer} is missing");
    }
}

#[test]
fn operation_ids_are_unique() {
    let document = document();
    let mut names = Vec::new();
    collect(&document["paths"], "operationId", &mut names);
    let distinct: BTreeSet<_> = names.iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

fn collect<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(name));
            members
                .values()
                .for_each(|value| collect(value, name, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, name, found)),
        _ => {}
    }
}

/// Returns method, path and operation, in the order in which a user would call them.
pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let order = [
        "/auth/signup",
        "/auth/login",
        "/auth/me",
        "/api-keys",
        "/protected",
        "/verify",
        "/verify/batch",
        "/forward-auth",
        "/admin/users/{id}",
        "/admin/api-keys",
        "/admin/roles",
        "/admin/roles/{name}",
        "/api-keys/{id}/rotate",
        "/api-keys/{id}",
        "/admin/api-keys/{id}",
    ];
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    let rank = |path: &str| order.iter().position(|p| *p == path).unwrap_or(order.len());
    operations.sort_by_key(|(method, path, _)| (rank(path), *method == "DELETE"));
    operations
}

/// Returns the example of a schema, composed of the examples of its members, as Swagger UI fills it in.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return example(document, document.pointer(&reference[1..]).unwrap());
    }
    if let Some(given) = schema.get("example").or(schema.get("default")) {
        return given.clone();
    }
    if let Some(options) = schema.get("oneOf").or(schema.get("anyOf")) {
        let options = options.as_array().unwrap();
        let real = options
            .iter()
            .find(|option| option["type"] != "null")
            .unwrap();
        return example(document, real);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    let members = schema["properties"]
        .as_object()
        .unwrap_or_else(|| panic!("no example: {schema}"));
    members
        .iter()
        .map(|(name, schema)| (name.clone(), example(document, schema)))
        .collect()
}

fn send(
    client: &Client,
    document: &Value,
    method: &str,
    path: &str,
    operation: &Value,
    media_type: &str,
) -> Reply {
    let Some(content) = operation.pointer("/requestBody/content") else {
        return client.send(method, path, "");
    };
    let body = example(document, &content[media_type]["schema"]);
    let client = client.with("content-type", media_type);
    match media_type {
        "application/json" | "application/merge-patch+json" => {
            client.send(method, path, body.to_string())
        }
        _ => {
            let pairs = body.as_object().unwrap().iter();
            let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
            client.send(
                method,
                path,
                serde_urlencoded::to_string(pairs.collect::<Vec<_>>()).unwrap(),
            )
        }
    }
}

on_both_databases! {
    every_documented_enum_value_is_accepted,
    every_documented_example_is_accepted_unchanged,
    every_documented_operation_is_served_and_lists_its_error_responses,
}

/// Returns the schema that a reference names, or the schema itself if it is no reference.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => schema,
    }
}

fn every_documented_enum_value_is_accepted(server: TestServer) {
    let document = document();
    let admin = server.admin("ada@example.com");
    let id = admin.create_key()["id"].as_str().unwrap().to_owned();
    let mut tried = 0;
    for (method, path, operation) in operations(&document) {
        let path = path.replace("{id}", &id);
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = resolved(&document, &parameter["schema"]);
            for value in schema["enum"].as_array().into_iter().flatten() {
                let (name, value) = (parameter["name"].as_str().unwrap(), value.as_str().unwrap());
                let reply = admin.send(&method, &format!("{path}?{name}={value}"), "");
                assert_eq!(
                    reply.status, 200,
                    "{method} {path}?{name}={value}: {reply:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 24, "{tried}");
    let permissions = &document["components"]["schemas"]["Permission"]["enum"];
    let body = serde_json::json!({"permissions": permissions});
    let role = admin.put_json("/admin/roles/all", &body);
    assert_eq!(
        (role.status, &role.json()["permissions"]),
        (201, permissions)
    );
    let actions = document["components"]["schemas"]["Action"]["enum"]
        .as_array()
        .unwrap();
    for event in admin.get("/audit-log").json().as_array().unwrap() {
        assert!(actions.contains(&event["action"]), "{event}");
    }
}

fn every_documented_example_is_accepted_unchanged(server: TestServer) {
    let document = document();
    let anonymous = server.anonymous();
    let mut password = PASSWORD;
    let (mut user, mut key, mut id) = (anonymous.clone(), anonymous.clone(), String::new());
    let mut verifier = anonymous.clone();
    let mut user_id = String::new();
    for (method, path, operation) in operations(&document) {
        let security = operation["security"].to_string();
        let client = match () {
            () if security.contains("user_token") => user.clone(),
            () if path.starts_with("/verify") => verifier.clone(),
            () if security.contains("api_key") => key.clone(),
            () => anonymous.clone(),
        };
        let path_id = if path.starts_with("/admin/users") {
            &user_id
        } else {
            &id
        };
        let address = path.replace("{id}", path_id).replace("{name}", "support");
        let media_types: Vec<String> = match operation.pointer("/requestBody/content") {
            Some(content) => content.as_object().unwrap().keys().cloned().collect(),
            None => vec!["none".to_owned()],
        };
        for media_type in media_types {
            let reply = send(
                &client,
                &document,
                &method,
                &address,
                &operation,
                &media_type,
            );
            assert!(
                (200..300).contains(&reply.status),
                "{method} {path}: {reply:?}"
            );
            let documented = &operation["responses"][reply.status.to_string()];
            assert!(documented.is_object(), "{method} {path}: {}", reply.status);
            for header in documented["headers"].as_object().unwrap().keys() {
                // The last page of a list has no `Link`, and a key without limits has no limit headers.
                let is_optional =
                    ["Link", "RateLimit", "RateLimit-Policy"].contains(&header.as_str());
                let is_present = reply.header(header).is_some() || is_optional;
                assert!(is_present, "{method} {path}: no {header}");
            }
            let no_store = documented["headers"].get("Cache-Control").is_some();
            assert_eq!(reply.header("cache-control").is_some(), no_store, "{path}");
            match (method.as_str(), path.as_str()) {
                ("POST", "/auth/signup") => {
                    user_id = reply.text("id").to_owned();
                    let granted = server.run_admin(&["grant", "ada@example.com"]);
                    assert!(granted.status.success(), "{granted:?}");
                }
                ("POST", "/auth/login") => user = anonymous.with_token(reply.text("access_token")),
                ("POST", "/api-keys") => {
                    key = anonymous.with_key(reply.text("api_key"));
                    id = reply.text("id").to_owned();
                    let settings = serde_json::json!({"scopes": ["keys:verify"]});
                    verifier = server.caller(&user.create_key_with(&settings));
                }
                // These invalidate the token.
                ("POST", "/auth/logout") => user = anonymous.log_in("ada@example.com", password),
                ("POST", "/auth/password") => {
                    password = "another horse, another battery";
                    user = anonymous.log_in("ada@example.com", password);
                }
                _ => {}
            }
        }
    }
}

fn every_documented_operation_is_served_and_lists_its_error_responses(server: TestServer) {
    let document = document();
    let anonymous = server.anonymous();
    for (method, path, operation) in operations(&document) {
        let address = path.replace("{id}", "x").replace("{name}", "x");
        let reply = anonymous.send(&method, &address, "");
        assert!(
            !matches!(reply.status, 404 | 405),
            "{method} {path}: {reply:?}"
        );

        let documented: BTreeSet<_> = operation["responses"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = BTreeSet::new();
        if operation.get("security").is_some() {
            expected.extend(["400", "401"]);
        }
        if operation.get("requestBody").is_some() {
            expected.extend(["400", "408", "413", "415", "422"]);
        }
        // PUT creates what does not exist.
        if path.contains('{') && method != "PUT" {
            expected.insert("404");
        }
        if path != "/health/live" {
            expected.insert("503");
        }
        assert!(
            documented.is_superset(&expected),
            "{method} {path}: {documented:?}"
        );
        for (status, response) in operation["responses"].as_object().unwrap() {
            if status.starts_with('4') || status.starts_with('5') {
                assert!(
                    response["$ref"].is_string(),
                    "{method} {path} declares {status} by hand"
                );
            }
        }
    }
    assert_eq!(
        PASSWORD, "correct horse battery staple",
        "the document's example"
    );
}
