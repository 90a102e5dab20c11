//! `/admin/api-keys`: what operators see of everybody's keys, and do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{TestServer, path_of},
};

on_both_databases! {
    an_operator_sees_everybodys_keys,
    an_operator_revokes_anybodys_key,
}

fn an_operator_sees_everybodys_keys(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let bob = server.user("bob@example.com");
    let of_ada = ada.create_key_with(&json!({"name": "Ada's", "environment": "test"}));
    let of_bob = bob.create_key_with(&json!({"name": "Bob's", "expires_in_seconds": 60}));
    let ids = |query: &str| -> Vec<Value> {
        let keys = root.get(&format!("/admin/api-keys{query}")).json();
        keys.as_array()
            .unwrap()
            .iter()
            .map(|key| key["id"].clone())
            .collect()
    };
    assert_eq!(ids(""), [of_bob["id"].clone(), of_ada["id"].clone()]);
    let mut shown = ada.get(&path_of(&of_ada)).json();
    shown["user_id"] = json!(ada.id());
    assert_eq!(root.get("/admin/api-keys").json()[1], shown);
    for (query, expected) in [
        (format!("?user_id={}", ada.id()), vec![&of_ada]),
        (format!("?user_id={}", uuid::Uuid::now_v7()), vec![]),
        ("?environment=live".to_owned(), vec![&of_bob]),
        ("?q=ADA".to_owned(), vec![&of_ada]),
        ("?status=active&limit=1".to_owned(), vec![&of_bob]),
    ] {
        let expected: Vec<_> = expected.iter().map(|key| key["id"].clone()).collect();
        assert_eq!(ids(&query), expected, "{query}");
    }
    server.advance(Duration::from_secs(60));
    assert_eq!(ids("?status=expired"), [of_bob["id"].clone()]);
    let problem = root
        .get("/admin/api-keys?user_id=x")
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "?user_id");
    // One's own list stays one's own, and has no such filter.
    assert_eq!(root.get("/api-keys").json(), json!([]));
    root.get(&path_of(&of_ada)).assert_problem(404, "not_found");
    root.get(&format!("/api-keys?user_id={}", ada.id()))
        .assert_problem(422, "validation_failed");
}

fn an_operator_revokes_anybodys_key(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    let path = format!("/admin{}", path_of(&key));
    let revoked = root.delete(&path);
    assert_eq!(revoked.status, 200);
    assert_eq!(revoked.json()["status"], "revoked");
    assert_eq!(revoked.json()["user_id"], json!(ada.id()));
    caller
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    assert_eq!(root.delete(&path).json(), revoked.json());
    for id in ["x", &uuid::Uuid::now_v7().to_string(), &ada.id()] {
        root.delete(&format!("/admin/api-keys/{id}"))
            .assert_problem(404, "not_found");
    }
}
