//! `/api-keys`: creates, lists, reads and revokes API keys.

use std::{collections::HashSet, thread};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, TestServer},
};

fn ids(keys: &Value) -> Vec<String> {
    let id = |key: &Value| key["id"].as_str().unwrap().to_owned();
    keys.as_array().unwrap().iter().map(id).collect()
}

fn all_pages(client: &Client, first: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut path = Some(first.to_owned());
    while let Some(next) = path {
        let reply = client.get(&next);
        assert_eq!(reply.status, 200, "{reply:?}");
        pages.push(ids(&reply.json()));
        path = reply.next_page();
    }
    pages
}

on_both_databases! {
    key_is_created_without_a_body,
    created_key_has_the_requested_name_and_environment,
    key_with_an_invalid_name_or_environment_is_rejected,
    plain_key_is_returned_only_on_creation,
    key_list_is_paged_newest_first,
    key_list_page_has_50_keys_by_default_and_at_most_100,
    key_list_pages_neither_skip_nor_repeat_keys_during_changes,
    malformed_or_foreign_cursor_is_rejected,
    revoked_key_is_rejected_and_stays_listed,
    concurrent_revocations_of_a_key_return_the_same_response,
    key_of_another_user_is_not_found,
    malformed_or_unknown_key_id_is_not_found,
    generated_keys_are_unique,
}

fn key_is_created_without_a_body(server: TestServer) {
    let ada = server.user("ada@example.com");
    let reply = ada.post("/api-keys");
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let key = reply.json();
    assert_eq!(
        reply.header("location"),
        Some(format!("/api-keys/{}", key["id"].as_str().unwrap()).as_str())
    );
    assert_eq!(key["environment"], "live");
    assert_eq!(key["status"], "active");
    assert_eq!(key["name"], Value::Null);
    assert_eq!(key["revoked_at"], Value::Null);
    let api_key = key["api_key"].as_str().unwrap();
    assert!(api_key.starts_with("sk_live_"));
    assert_eq!(api_key.len(), 46);
    assert_eq!(key["prefix"].as_str().unwrap(), &api_key[..12]);
}

fn created_key_has_the_requested_name_and_environment(server: TestServer) {
    let ada = server.user("ada@example.com");
    let reply = ada.post_json(
        "/api-keys",
        &json!({"name": "billing \u{1f511}", "environment": "test"}),
    );
    assert_eq!(reply.status, 201);
    let key = reply.json();
    assert_eq!(key["name"], "billing \u{1f511}");
    assert_eq!(key["environment"], "test");
    assert!(key["api_key"].as_str().unwrap().starts_with("sk_test_"));
    let response = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap())
        .get("/protected");
    assert_eq!(response.json()["key"]["environment"], "test");
}

fn key_with_an_invalid_name_or_environment_is_rejected(server: TestServer) {
    let ada = server.user("ada@example.com");
    for (body, pointer) in [
        (json!({"name": ""}), "/name"),
        (json!({"name": "   "}), "/name"),
        (json!({"name": "a".repeat(101)}), "/name"),
        (json!({"name": "two\nlines"}), "/name"),
        (json!({"name": 1}), "/name"),
        (json!({"environment": "prod"}), "/environment"),
        (json!({"environment": 1}), "/environment"),
        (json!({"environment": ["live"]}), "/environment"),
        (json!({"environment": {"live": null}}), "/environment"),
        (
            json!({"environment": "x expected hunter22 at line 1"}),
            "/environment",
        ),
        (json!({"user_id": uuid::Uuid::now_v7()}), "/user_id"),
        (json!(["a name", "live"]), ""),
        (json!("a name"), ""),
        (json!(1), ""),
    ] {
        let problem = ada
            .post_json("/api-keys", &body)
            .assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        assert!(!problem.to_string().contains("hunter22"), "{problem}");
    }
    assert_eq!(ada.get("/api-keys").json(), json!([]));
    for body in [
        json!({"name": "\u{e9}".repeat(100)}),
        json!({"name": null}),
        json!({}),
        json!(null),
    ] {
        assert_eq!(ada.post_json("/api-keys", &body).status, 201, "{body}");
    }
}

fn plain_key_is_returned_only_on_creation(server: TestServer) {
    let ada = server.user("ada@example.com");
    let created = ada.create_key();
    let api_key = created["api_key"].as_str().unwrap();
    let path = format!("/api-keys/{}", created["id"].as_str().unwrap());
    let mut without_secret = created.clone();
    without_secret.as_object_mut().unwrap().remove("api_key");
    assert_eq!(ada.get(&path).json(), without_secret);
    assert_eq!(ada.get("/api-keys").json(), json!([without_secret]));
    for reply in [ada.get(&path), ada.get("/api-keys"), ada.delete(&path)] {
        assert!(!reply.body.contains(&api_key[13..]), "{reply:?}");
    }
}

fn key_list_is_paged_newest_first(server: TestServer) {
    let ada = server.user("ada@example.com");
    let mut created: Vec<_> = (0..7)
        .map(|_| ada.create_key()["id"].as_str().unwrap().to_owned())
        .collect();
    created.reverse();
    assert_eq!(
        all_pages(&ada, "/api-keys?limit=3"),
        [&created[..3], &created[3..6], &created[6..]]
    );
    assert_eq!(all_pages(&ada, "/api-keys?limit=7"), [&created[..]]);
    assert_eq!(all_pages(&ada, "/api-keys"), [&created[..]]);
}

fn key_list_page_has_50_keys_by_default_and_at_most_100(server: TestServer) {
    let ada = server.user("ada@example.com");
    for _ in 0..51 {
        ada.create_key();
    }
    assert_eq!(
        all_pages(&ada, "/api-keys")
            .iter()
            .map(Vec::len)
            .collect::<Vec<_>>(),
        [50, 1]
    );
    assert_eq!(all_pages(&ada, "/api-keys?limit=100")[0].len(), 51);
    for limit in ["0", "101", "-1", "1.5", "ten", "", "99999999999999999999"] {
        let reply = ada.get(&format!("/api-keys?limit={limit}"));
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], "?limit");
    }
    let problem = ada
        .get("/api-keys?limt=5")
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "?limt");
}

fn key_list_pages_neither_skip_nor_repeat_keys_during_changes(server: TestServer) {
    let ada = server.user("ada@example.com");
    let created: HashSet<_> = (0..6)
        .map(|_| ada.create_key()["id"].as_str().unwrap().to_owned())
        .collect();
    let first = ada.get("/api-keys?limit=2");
    ada.create_key();
    ada.delete(&format!("/api-keys/{}", ids(&first.json())[1]));
    let mut listed = ids(&first.json());
    listed.extend(all_pages(&ada, &first.next_page().unwrap()).concat());
    assert_eq!(listed.len(), 6);
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), created);
}

fn malformed_or_foreign_cursor_is_rejected(server: TestServer) {
    let ada = server.user("ada@example.com");
    let bob = server.user("bob@example.com");
    for _ in 0..2 {
        ada.create_key();
        bob.create_key();
    }
    let reply = ada.get("/api-keys?limit=1");
    let next = &*reply.next_page().unwrap();
    assert_eq!(ada.get(next).status, 200);
    bob.get(next).assert_problem(400, "invalid_cursor");
    for cursor in [
        "",
        "x",
        "%00",
        &"A".repeat(32),
        &"A".repeat(5000),
        &next[next.len() - 10..],
    ] {
        ada.get(&format!("/api-keys?cursor={cursor}"))
            .assert_problem(400, "invalid_cursor");
    }
}

fn revoked_key_is_rejected_and_stays_listed(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);

    let revoked = ada.delete(&path);
    assert_eq!(revoked.status, 200);
    assert_eq!(revoked.json()["status"], "revoked");
    assert!(revoked.json()["revoked_at"].is_string());
    caller
        .get("/protected")
        .assert_problem(401, "invalid_api_key");

    server.advance(std::time::Duration::from_secs(60));
    assert_eq!(ada.delete(&path).json(), revoked.json());
    assert_eq!(ada.get(&path).json(), revoked.json());
    assert_eq!(ada.get("/api-keys").json(), json!([revoked.json()]));
}

fn concurrent_revocations_of_a_key_return_the_same_response(server: TestServer) {
    let ada = server.user("ada@example.com");
    let path = format!("/api-keys/{}", ada.create_key()["id"].as_str().unwrap());
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (ada, path) = (ada.clone(), path.clone());
            thread::spawn(move || ada.delete(&path).body)
        })
        .collect();
    let bodies: HashSet<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

fn key_of_another_user_is_not_found(server: TestServer) {
    let ada = server.user("ada@example.com");
    let bob = server.user("bob@example.com");
    let key = ada.create_key();
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    bob.get(&path).assert_problem(404, "not_found");
    bob.delete(&path).assert_problem(404, "not_found");
    assert_eq!(bob.get("/api-keys").json(), json!([]));
    assert_eq!(ada.get(&path).json()["status"], "active");
}

fn malformed_or_unknown_key_id_is_not_found(server: TestServer) {
    let ada = server.user("ada@example.com");
    let id = ada.create_key()["id"].as_str().unwrap().to_owned();
    for other in [
        "1",
        "x",
        "%00",
        "..%2f",
        &uuid::Uuid::now_v7().to_string(),
        &id.replace('-', ""),
        &id.to_uppercase(),
        &format!("{{{id}}}"),
        &format!("urn:uuid:{id}"),
    ] {
        ada.get(&format!("/api-keys/{other}"))
            .assert_problem(404, "not_found");
        ada.delete(&format!("/api-keys/{other}"))
            .assert_problem(404, "not_found");
    }
}

fn generated_keys_are_unique(server: TestServer) {
    let ada = server.user("ada@example.com");
    let threads: Vec<_> = (0..32)
        .map(|_| {
            let ada = ada.clone();
            thread::spawn(move || {
                (0..10)
                    .map(|_| ada.create_key()["api_key"].to_string())
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let keys: HashSet<_> = threads
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    assert_eq!(keys.len(), 320);
}
