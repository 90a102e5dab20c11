//! `/admin/roles`: named sets of permissions.

use std::thread;

use serde_json::{Value, json};

use crate::{on_both_databases, support::TestServer};

on_both_databases! {
    two_roles_are_built_in_and_stay_as_they_are,
    a_role_is_made_changed_and_deleted,
    roles_come_newest_first_in_pages,
    what_is_no_role_is_refused,
    a_role_in_use_is_not_deleted,
    nobody_makes_or_changes_a_role_that_allows_more_than_they_may,
    a_role_is_not_deleted_while_it_is_being_given,
}

fn two_roles_are_built_in_and_stay_as_they_are(server: TestServer) {
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

fn a_role_is_made_changed_and_deleted(server: TestServer) {
    let root = server.admin("root@example.com");
    let made = root.put_role("support", &["keys:read", "users:read", "keys:read"]);
    assert_eq!(made.status, 201);
    let role =
        json!({"name": "support", "permissions": ["users:read", "keys:read"], "built_in": false});
    assert_eq!(made.json(), role);
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

fn roles_come_newest_first_in_pages(server: TestServer) {
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

fn what_is_no_role_is_refused(server: TestServer) {
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
        // Some of these are no path of ours.
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

fn a_role_in_use_is_not_deleted(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.operator(&root, "ada@example.com", &["users:read"]);
    root.delete("/admin/roles/ada")
        .assert_problem(409, "conflict");
    // Those who are deactivated have it too.
    let path = format!("/admin/users/{}", ada.id());
    root.patch_json(&path, &json!({"active": false}));
    root.delete("/admin/roles/ada")
        .assert_problem(409, "conflict");
    root.patch_json(&path, &json!({"role": "member"}));
    assert_eq!(root.delete("/admin/roles/ada").status, 204);
}

fn nobody_makes_or_changes_a_role_that_allows_more_than_they_may(server: TestServer) {
    let root = server.admin("root@example.com");
    let olga = server.operator(&root, "olga@example.com", &["roles:write", "users:read"]);
    root.put_role("auditor", &["audit:read"]);
    olga.put_role("more", &["users:read", "keys:write"])
        .assert_problem(403, "permission_denied");
    olga.put_role("olga", &["roles:write", "users:read", "keys:read"])
        .assert_problem(403, "permission_denied");
    // Nor do they take away from those who may do more.
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
    // They may lock themselves out.
    assert_eq!(olga.put_role("olga", &["users:read"]).status, 200);
    olga.get("/admin/roles")
        .assert_problem(403, "permission_denied");
}

fn a_role_is_not_deleted_while_it_is_being_given(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let path = format!("/admin/users/{}", ada.id());
    for _ in 0..10 {
        root.put_role("fleeting", &["users:read"]);
        let (giver, path_there) = (root.clone(), path.clone());
        let give =
            thread::spawn(move || giver.patch_json(&path_there, &json!({"role": "fleeting"})));
        let deleted = root.delete("/admin/roles/fleeting").status;
        let given = give.join().unwrap();
        let role = ada.get("/auth/me").json()["role"].clone();
        match (given.status, deleted) {
            (200, 409) => assert_eq!(role, "fleeting"),
            (422, 204) => assert_eq!(role, "member"),
            other => panic!("{other:?}: {role}"),
        }
        let back: Value = json!({"role": "member"});
        assert_eq!(root.patch_json(&path, &back).status, 200);
    }
}
