//! `/admin/api-keys`: operators list and revoke the keys of every user.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{TestServer, path_of},
};

on_both_databases! {
    operator_lists_and_filters_the_keys_of_every_user,
    operator_revokes_a_key_of_another_user,
}

fn operator_lists_and_filters_the_keys_of_every_user(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let bob = server.user("bob@example.com");
    let ada_key = ada.create_key_with(&json!({"name": "Ada's", "environment": "test"}));
    let bob_key = bob.create_key_with(&json!({"name": "Bob's", "expires_in_seconds": 60}));
    let ids = |query: &str| -> Vec<Value> {
        let keys = root.get(&format!("/admin/api-keys{query}")).json();
        keys.as_array()
            .unwrap()
            .iter()
            .map(|key| key["id"].clone())
            .collect()
    };
    assert_eq!(ids(""), [bob_key["id"].clone(), ada_key["id"].clone()]);
    let mut shown = ada.get(&path_of(&ada_key)).json();
    shown["user_id"] = json!(ada.id());
    assert_eq!(root.get("/admin/api-keys").json()[1], shown);
    for (query, expected) in [
        (format!("?user_id={}", ada.id()), vec![&ada_key]),
        (format!("?user_id={}", uuid::Uuid::now_v7()), vec![]),
        ("?environment=live".to_owned(), vec![&bob_key]),
        ("?q=ADA".to_owned(), vec![&ada_key]),
        ("?status=active&limit=1".to_owned(), vec![&bob_key]),
    ] {
        let expected: Vec<_> = expected.iter().map(|key| key["id"].clone()).collect();
        assert_eq!(ids(&query), expected, "{query}");
    }
    server.advance(Duration::from_secs(60));
    assert_eq!(ids("?status=expired"), [bob_key["id"].clone()]);
    let problem = root
        .get("/admin/api-keys?user_id=x")
        .assert_problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "?user_id");
    // `/api-keys` still lists only the caller's own keys, and has no `user_id` filter.
    assert_eq!(root.get("/api-keys").json(), json!([]));
    root.get(&path_of(&ada_key))
        .assert_problem(404, "not_found");
    root.get(&format!("/api-keys?user_id={}", ada.id()))
        .assert_problem(422, "validation_failed");
}

fn operator_revokes_a_key_of_another_user(server: TestServer) {
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
