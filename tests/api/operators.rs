//! `/admin/users`: operators list and change accounts.

use serde_json::json;

use crate::{
    on_both_databases,
    support::{PASSWORD, TestServer, path_of},
};

on_both_databases! {
    operator_lists_and_filters_every_account,
    role_change_applies_to_the_next_request,
    deactivation_rejects_tokens_and_keys_and_activation_restores_only_keys,
    login_to_a_deactivated_account_is_rejected_like_an_unknown_one,
    invalid_account_change_is_rejected_and_changes_nothing,
}

fn operator_lists_and_filters_every_account(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("Ada.Lovelace@example.com");
    let bob = server.user("bob@example.com");
    root.change_user(&bob.id(), &json!({"active": false}));
    let users = root.get("/admin/users").json();
    let emails: Vec<_> = users
        .as_array()
        .unwrap()
        .iter()
        .map(|user| &user["email"])
        .collect();
    assert_eq!(
        emails,
        [
            "bob@example.com",
            "Ada.Lovelace@example.com",
            "root@example.com"
        ]
    );
    let mut shown = ada.get("/auth/me").json();
    shown["active"] = json!(true);
    assert_eq!(users[1], shown);
    assert!(!root.get("/admin/users").body.contains("$2b$"));
    for (query, expected) in [
        ("?q=LOVELACE", vec!["Ada.Lovelace@example.com"]),
        ("?q=%25", vec![]),
        ("?q=_ob", vec![]),
        ("?active=false", vec!["bob@example.com"]),
        ("?role=admin", vec!["root@example.com"]),
        (
            "?role=member&active=true&q=example",
            vec!["Ada.Lovelace@example.com"],
        ),
        ("?role=nobody", vec![]),
    ] {
        let found = root.get(&format!("/admin/users{query}")).json();
        let emails: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["email"].clone())
            .collect();
        assert_eq!(emails, expected, "{query}");
    }
    let first = root.get("/admin/users?limit=2&q=example");
    let link = first.header("link").unwrap();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    assert!(next.contains("q=example"), "{next}");
    assert_eq!(root.get(next).json()[0]["email"], "root@example.com");
    for (query, pointer) in [
        ("?q=%00", "?q"),
        ("?active=yes", "?active"),
        ("?role=%00", "?role"),
        ("?email=x", "?email"),
    ] {
        let problem = root
            .get(&format!("/admin/users{query}"))
            .assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
}

fn role_change_applies_to_the_next_request(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    let reply = root.change_user(&ada.id(), &json!({"role": "admin"}));
    assert_eq!(
        (reply.status, &reply.json()["role"]),
        (200, &json!("admin"))
    );
    assert_eq!(ada.get("/admin/users").status, 200);
    assert_eq!(ada.get("/auth/me").json()["role"], "admin");
    root.change_user(&ada.id(), &json!({"role": "member"}));
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    // A change of the role itself also applies to the users who have it.
    let permissions = |list: &[&str]| json!({"permissions": list});
    root.put_json("/admin/roles/reader", &permissions(&["users:read"]));
    root.change_user(&ada.id(), &json!({"role": "reader"}));
    assert_eq!(ada.get("/admin/users").status, 200);
    root.put_json("/admin/roles/reader", &permissions(&["keys:read"]));
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    assert_eq!(ada.get("/admin/api-keys").status, 200);
}

fn deactivation_rejects_tokens_and_keys_and_activation_restores_only_keys(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let (kept, revoked) = (ada.create_key(), ada.create_key());
    ada.delete(&path_of(&revoked));
    let caller = server
        .anonymous()
        .with_key(kept["api_key"].as_str().unwrap());
    let revoked = server
        .anonymous()
        .with_key(revoked["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);
    let id = ada.id();

    let reply = root.change_user(&id, &json!({"active": false}));
    assert_eq!(
        (reply.status, &reply.json()["active"]),
        (200, &json!(false))
    );
    ada.get("/auth/me").assert_problem(401, "invalid_token");
    caller
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    let keys = root.get(&format!("/admin/api-keys?user_id={id}")).json();
    let statuses: Vec<_> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["status"])
        .collect();
    assert_eq!(statuses, ["revoked", "disabled"]);
    assert_eq!(keys[1]["enabled"], true);

    let reply = root.change_user(&id, &json!({"active": true}));
    assert_eq!(reply.json()["active"], true);
    assert_eq!(caller.get("/protected").status, 200);
    revoked
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    // Tokens stay invalid.
    ada.get("/auth/me").assert_problem(401, "invalid_token");
    let ada = server.anonymous().log_in("ada@example.com", PASSWORD);
    assert_eq!(ada.get("/auth/me").status, 200);
}

fn login_to_a_deactivated_account_is_rejected_like_an_unknown_one(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    root.change_user(&ada.id(), &json!({"active": false}));
    let anonymous = server.anonymous().with("x-request-id", "same");
    let login = |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        let reply = anonymous.post_json("/auth/login", &body);
        reply.assert_problem(401, "invalid_credentials");
        reply.body
    };
    let bodies = [
        login("ada@example.com", PASSWORD),
        login("ada@example.com", "wrong password"),
        login("nobody@example.com", PASSWORD),
    ];
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    // The email address stays taken.
    let again = json!({"email": "ada@example.com", "password": PASSWORD});
    anonymous
        .post_json("/auth/signup", &again)
        .assert_problem(409, "email_taken");
}

fn invalid_account_change_is_rejected_and_changes_nothing(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let before = root.get("/admin/users").body;
    for (body, pointer) in [
        (json!({"role": "nobody"}), "/role"),
        (json!({"role": ""}), "/role"),
        (json!({"role": "\u{0}"}), "/role"),
        (json!({"role": null}), "/role"),
        (json!({"role": 1}), "/role"),
        (json!({"active": null}), "/active"),
        (json!({"active": "false"}), "/active"),
        (json!({"active": 0}), "/active"),
        (json!({"email": "eve@example.com"}), "/email"),
        (json!({"password_hash": "x"}), "/password_hash"),
        (json!({"id": root.id()}), "/id"),
        (json!({"session_version": 1}), "/session_version"),
    ] {
        let problem = root
            .change_user(&ada.id(), &body)
            .assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    assert_eq!(root.change_user(&ada.id(), &json!({})).status, 200);
    assert_eq!(root.get("/admin/users").body, before);
    let key = ada.create_key();
    for id in [
        "x",
        &uuid::Uuid::now_v7().to_string(),
        key["id"].as_str().unwrap(),
    ] {
        root.change_user(id, &json!({"nothing": "good"}))
            .assert_problem(404, "not_found");
    }
    // These members cannot be set at signup either.
    for member in ["role", "active", "id"] {
        let body = json!({"email": "eve@example.com", "password": PASSWORD, member: "admin"});
        server
            .anonymous()
            .post_json("/auth/signup", &body)
            .assert_problem(422, "validation_failed");
    }
}
