//! `/admin/roles`: named sets of permissions, created and assigned by operators.

use std::thread;

use serde_json::{Value, json};

use crate::{on_both_databases, support::TestServer};

on_both_databases! {
    built_in_roles_cannot_be_changed_or_deleted,
    role_is_created_changed_and_deleted,
    role_list_is_paged_newest_first,
    invalid_role_is_rejected,
    role_in_use_cannot_be_deleted,
    operator_cannot_write_a_role_with_permissions_they_lack,
    role_is_not_deleted_while_it_is_being_assigned,
}

fn built_in_roles_cannot_be_changed_or_deleted(server: TestServer) {
    let root = server.admin("root@example.com");
    let all = json!([
        "users:read",
        "users:write",
        "keys:read",
        "keys:write",
        "audit:read",
        "usage:read",
        "roles:write"
    ]);
    let expected = json!([
        {"name": "member", "permissions": [], "built_in": true},
        {"name": "admin", "permissions": all, "built_in": true},
    ]);
    assert_eq!(root.get("/admin/roles").json(), expected);
    for name in ["admin", "member"] {
        root.put_role(name, &["users:read"])
            .assert_problem(409, "conflict");
        root.delete(&format!("/admin/roles/{name}"))
            .assert_problem(409, "conflict");
    }
    assert_eq!(root.get("/admin/roles").json(), expected);
}

fn role_is_created_changed_and_deleted(server: TestServer) {
    let root = server.admin("root@example.com");
    let created = root.put_role("support", &["keys:read", "users:read", "keys:read"]);
    assert_eq!(created.status, 201);
    let role =
        json!({"name": "support", "permissions": ["users:read", "keys:read"], "built_in": false});
    assert_eq!(created.json(), role);
    let same = root.put_role("support", &["users:read", "keys:read"]);
    assert_eq!((same.status, same.json()), (200, role));
    let changed = root.put_role("support", &[]);
    assert_eq!(
        (changed.status, &changed.json()["permissions"]),
        (200, &json!([]))
    );
    let deleted = root.delete("/admin/roles/support");
    assert_eq!((deleted.status, deleted.body.as_str()), (204, ""));
    root.delete("/admin/roles/support")
        .assert_problem(404, "not_found");
    assert_eq!(root.put_role("support", &[]).status, 201);
}

fn role_list_is_paged_newest_first(server: TestServer) {
    let root = server.admin("root@example.com");
    for name in ["a", "b", "c"] {
        assert_eq!(root.put_role(name, &[]).status, 201);
    }
    let mut names = Vec::new();
    let mut next = Some("/admin/roles?limit=2".to_owned());
    while let Some(path) = next {
        let reply = root.get(&path);
        let page = reply.json();
        names.push(
            page.as_array()
                .unwrap()
                .iter()
                .map(|role| role["name"].clone())
                .collect::<Vec<_>>(),
        );
        next = reply.next_page();
    }
    assert_eq!(names, [vec!["c", "b"], vec!["a", "member"], vec!["admin"]]);
    root.get("/admin/roles?q=a")
        .assert_problem(422, "validation_failed");
}

fn invalid_role_is_rejected(server: TestServer) {
    let root = server.admin("root@example.com");
    for (body, pointer) in [
        (json!({}), "/permissions"),
        (json!({"permissions": null}), "/permissions"),
        (json!({"permissions": "users:read"}), "/permissions"),
        (
            json!({"permissions": ["users:read", "root"]}),
            "/permissions/1",
        ),
        (json!({"permissions": [""]}), "/permissions/0"),
        (
            json!({"permissions": [{"users:read": null}]}),
            "/permissions/0",
        ),
        (json!({"permissions": [1]}), "/permissions/0"),
        (json!({"permissions": [], "built_in": true}), "/built_in"),
        (json!({"permissions": [], "name": "other"}), "/name"),
        (json!([["users:read"]]), ""),
    ] {
        let reply = root.put_json("/admin/roles/support", &body);
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    for name in [
        "Support",
        "a%20b",
        "%00",
        "caf%C3%A9",
        &"a".repeat(65),
        "..",
        "a%2fb",
    ] {
        let reply = root.put_role(name, &[]);
        // The router knows no path for some of these names.
        if reply.status != 404 {
            let problem = reply.assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], "{name}", "{name}");
        }
        root.delete(&format!("/admin/roles/{name}"))
            .assert_problem(404, "not_found");
    }
    assert_eq!(root.get("/admin/roles").json().as_array().unwrap().len(), 2);
    assert_eq!(root.put_role(&"a".repeat(64), &[]).status, 201);
}

fn role_in_use_cannot_be_deleted(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.operator(&root, "ada@example.com", &["users:read"]);
    root.delete("/admin/roles/ada")
        .assert_problem(409, "conflict");
    // A deactivated user with the role keeps it in use.
    let path = format!("/admin/users/{}", ada.id());
    root.patch_json(&path, &json!({"active": false}));
    root.delete("/admin/roles/ada")
        .assert_problem(409, "conflict");
    root.patch_json(&path, &json!({"role": "member"}));
    assert_eq!(root.delete("/admin/roles/ada").status, 204);
}

fn operator_cannot_write_a_role_with_permissions_they_lack(server: TestServer) {
    let root = server.admin("root@example.com");
    let olga = server.operator(&root, "olga@example.com", &["roles:write", "users:read"]);
    root.put_role("auditor", &["audit:read"]);
    olga.put_role("more", &["users:read", "keys:write"])
        .assert_problem(403, "permission_denied");
    olga.put_role("olga", &["roles:write", "users:read", "keys:read"])
        .assert_problem(403, "permission_denied");
    // They cannot reduce a role with permissions that they lack either.
    olga.put_role("auditor", &[])
        .assert_problem(403, "permission_denied");
    olga.delete("/admin/roles/auditor")
        .assert_problem(403, "permission_denied");
    let malformed = olga.with("content-type", "application/json");
    let malformed = malformed.send("PUT", "/admin/roles/auditor", "{");
    malformed.assert_problem(403, "permission_denied");
    assert_eq!(olga.put_role("less", &["users:read"]).status, 201);
    assert_eq!(
        olga.put_role("less", &["users:read", "roles:write"]).status,
        200
    );
    assert_eq!(olga.delete("/admin/roles/less").status, 204);
    // Removing permissions of their own role is allowed, even if it locks them out.
    assert_eq!(olga.put_role("olga", &["users:read"]).status, 200);
    olga.get("/admin/roles")
        .assert_problem(403, "permission_denied");
}

fn role_is_not_deleted_while_it_is_being_assigned(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let path = format!("/admin/users/{}", ada.id());
    for _ in 0..10 {
        root.put_role("fleeting", &["users:read"]);
        let (assigner, user_path) = (root.clone(), path.clone());
        let assignment =
            thread::spawn(move || assigner.patch_json(&user_path, &json!({"role": "fleeting"})));
        let deleted = root.delete("/admin/roles/fleeting").status;
        let assigned = assignment.join().unwrap();
        let role = ada.get("/auth/me").json()["role"].clone();
        match (assigned.status, deleted) {
            (200, 409) => assert_eq!(role, "fleeting"),
            (422, 204) => assert_eq!(role, "member"),
            other => panic!("{other:?}: {role}"),
        }
        let back: Value = json!({"role": "member"});
        assert_eq!(root.patch_json(&path, &back).status, 200);
    }
}
