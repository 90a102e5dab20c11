//! Changes of accounts that are denied even to operators.

use std::thread;

use serde_json::json;

use crate::{
    on_both_databases,
    support::{PASSWORD, PERMISSIONS, TestServer},
};

on_both_databases! {
    operator_cannot_grant_permissions_they_lack_or_change_users_with_more,
    last_admin_cannot_be_demoted_or_deactivated,
    one_admin_remains_when_two_demote_each_other_concurrently,
}

fn operator_cannot_grant_permissions_they_lack_or_change_users_with_more(server: TestServer) {
    let root = server.admin("root@example.com");
    let olga = server.operator(&root, "olga@example.com", &["users:write", "users:read"]);
    let nearly = server.operator(&root, "nearly@example.com", &PERMISSIONS);
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
            let reply = olga.change_user(&target.id(), &json!({"role": role}));
            reply.assert_problem(403, "permission_denied");
        }
    }
    // Permissions are checked before the body.
    for path in [
        format!("/admin/users/{}", root.id()),
        format!("/admin/users/{}", nearly.id()),
    ] {
        let malformed = olga
            .with("content-type", "application/json")
            .send("PATCH", &path, "{");
        malformed.assert_problem(403, "permission_denied");
    }
    // A role with every permission is not the role `admin`.
    nearly
        .change_user(&ada.id(), &json!({"role": "admin"}))
        .assert_problem(403, "permission_denied");
    for target in [&root, &nearly] {
        for body in [
            json!({"active": false}),
            json!({"role": "member"}),
            json!({"active": true}),
        ] {
            olga.change_user(&target.id(), &body)
                .assert_problem(403, "permission_denied");
        }
    }
    nearly
        .change_user(&root.id(), &json!({"active": false}))
        .assert_problem(403, "permission_denied");
    assert_eq!(root.get("/auth/me").json()["role"], "admin");

    assert_eq!(
        olga.change_user(&ada.id(), &json!({"role": "greeter"}))
            .status,
        200
    );
    assert_eq!(
        nearly
            .change_user(&ada.id(), &json!({"role": "auditor"}))
            .status,
        200
    );
    // Ada now has a permission that Olga lacks.
    olga.change_user(&ada.id(), &json!({"active": false}))
        .assert_problem(403, "permission_denied");
    assert_eq!(
        nearly
            .change_user(&olga.id(), &json!({"role": "member"}))
            .status,
        200
    );
    olga.change_user(&nearly.id(), &json!({}))
        .assert_problem(403, "permission_denied");
}

fn last_admin_cannot_be_demoted_or_deactivated(server: TestServer) {
    let root = server.admin("root@example.com");
    let id = root.id();
    for body in [
        json!({"role": "member"}),
        json!({"active": false}),
        json!({"role": "member", "active": false}),
    ] {
        root.change_user(&id, &body).assert_problem(409, "conflict");
    }
    let rejected = server.run_admin(&["revoke", "root@example.com"]);
    crate::support::program::assert_fails_with_one_line(&rejected, 1, &["last admin"]);

    let second = server.admin("second@example.com");
    // A deactivated admin cannot reverse a change, so they do not count as an admin.
    assert_eq!(
        root.change_user(&second.id(), &json!({"active": false}))
            .status,
        200
    );
    root.change_user(&id, &json!({"role": "member"}))
        .assert_problem(409, "conflict");
    let users = root.get("/admin/users?active=false").json();
    let second = users[0]["id"].as_str().unwrap();
    assert_eq!(
        root.change_user(second, &json!({"active": true})).status,
        200
    );
    assert_eq!(
        root.change_user(&id, &json!({"role": "member"})).status,
        200
    );
    root.get("/admin/users")
        .assert_problem(403, "permission_denied");
}

fn one_admin_remains_when_two_demote_each_other_concurrently(server: TestServer) {
    let emails = ["one@example.com", "other@example.com"];
    let ids = emails.map(|email| server.admin(email).id());
    for body in [json!({"role": "member"}), json!({"active": false})] {
        for _ in 0..5 {
            let admins = emails.map(|email| server.anonymous().log_in(email, PASSWORD));
            let threads = [(0, 1), (1, 0)].map(|(actor, target): (usize, usize)| {
                let (actor, id, body) = (admins[actor].clone(), ids[target].clone(), body.clone());
                thread::spawn(move || actor.change_user(&id, &body).status)
            });
            let mut statuses = threads.map(|thread| thread.join().unwrap());
            statuses.sort_unstable();
            // By the time of the second change its actor is no longer an admin, or is deactivated.
            assert!(matches!(statuses, [200, 401 | 403 | 409]), "{statuses:?}");
            let remaining =
                server.query("SELECT email AS text FROM users WHERE active AND role = 'admin'");
            assert_eq!(remaining.len(), 1, "{remaining:?}");
            server.execute("UPDATE users SET role = 'admin', active = TRUE");
        }
    }
}
