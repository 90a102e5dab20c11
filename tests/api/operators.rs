//! `/admin/users` and `/admin/api-keys`: what operators see and do.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, PASSWORD, Reply, TestServer, path_of},
};

fn change(operator: &Client, user: &Client, body: Value) -> Reply {
    change_id(operator, &user.id(), body)
}

fn change_id(operator: &Client, id: &str, body: Value) -> Reply {
    operator.patch_json(&format!("/admin/users/{id}"), &body)
}

on_both_databases! {
    an_operator_sees_every_account,
    a_role_that_was_given_holds_for_the_next_request,
    deactivating_kills_tokens_and_keys_at_once_and_activating_brings_back_the_keys,
    a_deactivated_account_cannot_log_in_and_looks_like_one_that_is_not_there,
    nobody_gives_what_they_do_not_have_or_changes_who_may_do_more,
    the_last_admin_can_be_neither_demoted_nor_deactivated,
    of_two_admins_who_demote_each_other_at_once_one_stays,
    what_cannot_be_changed_of_an_account_is_refused,
    an_operator_sees_everybodys_keys,
    an_operator_revokes_anybodys_key,
}

fn an_operator_sees_every_account(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("Ada.Lovelace@example.com");
    let bob = server.user("bob@example.com");
    change(&root, &bob, json!({"active": false}));
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

fn a_role_that_was_given_holds_for_the_next_request(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    let reply = change(&root, &ada, json!({"role": "admin"}));
    assert_eq!(
        (reply.status, &reply.json()["role"]),
        (200, &json!("admin"))
    );
    assert_eq!(ada.get("/admin/users").status, 200);
    assert_eq!(ada.get("/auth/me").json()["role"], "admin");
    change(&root, &ada, json!({"role": "member"}));
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    // What a role allows can change under those who have it, too.
    let permissions = |list: &[&str]| json!({"permissions": list});
    root.put_json("/admin/roles/reader", &permissions(&["users:read"]));
    change(&root, &ada, json!({"role": "reader"}));
    assert_eq!(ada.get("/admin/users").status, 200);
    root.put_json("/admin/roles/reader", &permissions(&["keys:read"]));
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    assert_eq!(ada.get("/admin/api-keys").status, 200);
}

fn deactivating_kills_tokens_and_keys_at_once_and_activating_brings_back_the_keys(
    server: TestServer,
) {
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

    let reply = change_id(&root, &id, json!({"active": false}));
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

    let reply = change_id(&root, &id, json!({"active": true}));
    assert_eq!(reply.json()["active"], true);
    assert_eq!(caller.get("/protected").status, 200);
    revoked
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    // Tokens stay dead.
    ada.get("/auth/me").assert_problem(401, "invalid_token");
    let ada = server.anonymous().log_in("ada@example.com", PASSWORD);
    assert_eq!(ada.get("/auth/me").status, 200);
}

fn a_deactivated_account_cannot_log_in_and_looks_like_one_that_is_not_there(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    change(&root, &ada, json!({"active": false}));
    let anyone = server.anonymous().with("x-request-id", "same");
    let login = |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        let reply = anyone.post_json("/auth/login", &body);
        reply.assert_problem(401, "invalid_credentials");
        reply.body
    };
    let answers = [
        login("ada@example.com", PASSWORD),
        login("ada@example.com", "wrong password"),
        login("nobody@example.com", PASSWORD),
    ];
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    // The address is not free for that.
    let again = json!({"email": "ada@example.com", "password": PASSWORD});
    anyone
        .post_json("/auth/signup", &again)
        .assert_problem(409, "email_taken");
}

fn nobody_gives_what_they_do_not_have_or_changes_who_may_do_more(server: TestServer) {
    let root = server.admin("root@example.com");
    let olga = server.operator(&root, "olga@example.com", &["users:write", "users:read"]);
    let all = [
        "users:read",
        "users:write",
        "keys:read",
        "keys:write",
        "audit:read",
        "usage:read",
        "roles:write",
    ];
    let nearly = server.operator(&root, "nearly@example.com", &all);
    let ada = server.user("ada@example.com");
    root.put_json(
        "/admin/roles/auditor",
        &json!({"permissions": ["audit:read"]}),
    );
    root.put_json(
        "/admin/roles/greeter",
        &json!({"permissions": ["users:read"]}),
    );

    for role in ["admin", "auditor", "nearly"] {
        for target in [&ada, &olga] {
            let reply = change(&olga, target, json!({"role": role}));
            reply.assert_problem(403, "permission_denied");
        }
    }
    // All permissions together are not an admin.
    change(&nearly, &ada, json!({"role": "admin"})).assert_problem(403, "permission_denied");
    for target in [&root, &nearly] {
        for body in [
            json!({"active": false}),
            json!({"role": "member"}),
            json!({"active": true}),
        ] {
            change(&olga, target, body).assert_problem(403, "permission_denied");
        }
    }
    change(&nearly, &root, json!({"active": false})).assert_problem(403, "permission_denied");
    assert_eq!(root.get("/auth/me").json()["role"], "admin");

    assert_eq!(change(&olga, &ada, json!({"role": "greeter"})).status, 200);
    assert_eq!(
        change(&nearly, &ada, json!({"role": "auditor"})).status,
        200
    );
    // And now ada may do something that olga may not.
    change(&olga, &ada, json!({"active": false})).assert_problem(403, "permission_denied");
    assert_eq!(
        change(&nearly, &olga, json!({"role": "member"})).status,
        200
    );
    change(&olga, &nearly, json!({})).assert_problem(403, "permission_denied");
}

fn the_last_admin_can_be_neither_demoted_nor_deactivated(server: TestServer) {
    let root = server.admin("root@example.com");
    let id = root.id();
    for body in [
        json!({"role": "member"}),
        json!({"active": false}),
        json!({"role": "member", "active": false}),
    ] {
        change_id(&root, &id, body).assert_problem(409, "conflict");
    }
    let refused = server.run_admin(&["revoke", "root@example.com"]);
    crate::support::program::assert_refused(&refused, 1, &["last admin"]);

    let second = server.admin("second@example.com");
    // An admin who is deactivated cannot undo anything, and does not count.
    assert_eq!(change(&root, &second, json!({"active": false})).status, 200);
    change_id(&root, &id, json!({"role": "member"})).assert_problem(409, "conflict");
    let users = root.get("/admin/users?active=false").json();
    let second = users[0]["id"].as_str().unwrap();
    assert_eq!(
        change_id(&root, second, json!({"active": true})).status,
        200
    );
    assert_eq!(change_id(&root, &id, json!({"role": "member"})).status, 200);
    root.get("/admin/users")
        .assert_problem(403, "permission_denied");
}

fn of_two_admins_who_demote_each_other_at_once_one_stays(server: TestServer) {
    let one = server.admin("one@example.com");
    let other = server.admin("other@example.com");
    for body in [json!({"role": "member"}), json!({"active": false})] {
        let demote = |by: &Client, whom: &Client| {
            let (by, id, body) = (by.clone(), whom.id(), body.clone());
            thread::spawn(move || change_id(&by, &id, body).status)
        };
        let threads = [demote(&one, &other), demote(&other, &one)];
        let mut statuses = threads.map(|thread| thread.join().unwrap());
        statuses.sort_unstable();
        // The other is no admin any more, or no user, when it is its turn.
        assert!(matches!(statuses, [200, 401 | 403 | 409]), "{statuses:?}");
        for email in ["one@example.com", "other@example.com"] {
            assert!(server.run_admin(&["grant", email]).status.success());
        }
        let left = server.query("SELECT email AS text FROM users WHERE active AND role = 'admin'");
        assert!(!left.is_empty());
        if left.len() == 1 {
            // The rest would need both.
            break;
        }
    }
}

fn what_cannot_be_changed_of_an_account_is_refused(server: TestServer) {
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
        let problem = change(&root, &ada, body).assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    assert_eq!(change(&root, &ada, json!({})).status, 200);
    assert_eq!(root.get("/admin/users").body, before);
    let key = ada.create_key();
    for id in [
        "x",
        &uuid::Uuid::now_v7().to_string(),
        key["id"].as_str().unwrap(),
    ] {
        change_id(&root, id, json!({"nothing": "good"})).assert_problem(404, "not_found");
    }
    // Nor can it be chosen at signup.
    for member in ["role", "active", "id"] {
        let body = json!({"email": "eve@example.com", "password": PASSWORD, member: "admin"});
        server
            .anonymous()
            .post_json("/auth/signup", &body)
            .assert_problem(422, "validation_failed");
    }
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
