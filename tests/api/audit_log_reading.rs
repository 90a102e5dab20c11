//! `GET /audit-log`: visibility, filters and pages of the events.

use std::time::Duration;

use serde_json::json;

use crate::{
    audit_log::{events, newest_event},
    on_both_databases,
    support::{Client, TestServer, path_of},
};

on_both_databases! {
    audit_log_shows_users_their_own_events_and_auditors_all_events,
    audit_events_are_filtered_by_query_and_reject_invalid_filters,
}

fn audit_log_shows_users_their_own_events_and_auditors_all_events(server: TestServer) {
    let root = server.admin("root@example.com");
    let olga = server.operator(&root, "olga@example.com", &["keys:write"]);
    let auditor = server.operator(&root, "auditor@example.com", &["audit:read"]);
    let ada = server.user("ada@example.com");
    let bob = server.user("bob@example.com");
    bob.create_key();
    let key = ada.create_key();
    olga.delete(&format!("/admin{}", path_of(&key)));

    let actions = |client: &Client, query: &str| -> Vec<String> {
        let events = events(client, query);
        events
            .iter()
            .map(|event| event["action"].as_str().unwrap().to_owned())
            .collect()
    };
    // Ada sees the event, but neither the operator's address nor the id of the request.
    let revoked = newest_event(&ada);
    assert_eq!(revoked["action"], "api_key.revoked");
    assert_eq!(
        (&revoked["ip"], &revoked["request_id"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(newest_event(&olga)["ip"], "127.0.0.1");
    assert_eq!(
        actions(&ada, ""),
        ["api_key.revoked", "api_key.created", "user.signed_up"]
    );
    assert_eq!(newest_event(&ada)["actor_id"], json!(olga.id()));
    // Olga is the actor of some of these events and the target of others.
    assert_eq!(
        actions(&olga, ""),
        ["api_key.revoked", "user.updated", "user.signed_up"]
    );
    assert_eq!(actions(&bob, ""), ["api_key.created", "user.signed_up"]);
    // Filters do not widen what a user may read.
    assert_eq!(
        actions(&bob, &format!("?actor_id={}", ada.id())),
        Vec::<String>::new()
    );
    assert_eq!(
        actions(&bob, &format!("?target_id={}", key["id"].as_str().unwrap())),
        Vec::<String>::new()
    );
    assert_eq!(events(&auditor, "").len(), events(&root, "").len());
    assert!(events(&auditor, "").len() > 10);
    // Pages contain the same events.
    let mut paged = Vec::new();
    let mut next = Some("/audit-log?limit=1".to_owned());
    while let Some(path) = next {
        let reply = olga.get(&path);
        paged.push(reply.json()[0]["action"].as_str().unwrap().to_owned());
        next = reply.next_page();
    }
    assert_eq!(paged, actions(&olga, ""));
}

fn audit_events_are_filtered_by_query_and_reject_invalid_filters(server: TestServer) {
    let root = server.admin("root@example.com");
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    server.advance(Duration::from_secs(60));
    let between = serde_json::to_value(server.clock.now()).unwrap();
    let between = between.as_str().unwrap();
    ada.patch_json(&path_of(&key), &json!({"name": "x"}));
    ada.delete(&path_of(&key));

    let id = key["id"].as_str().unwrap();
    let ada_id = ada.id();
    for (query, expected) in [
        (
            format!("?target_id={id}"),
            vec!["api_key.revoked", "api_key.updated", "api_key.created"],
        ),
        (
            format!("?target_id={id}&action=api_key.updated"),
            vec!["api_key.updated"],
        ),
        (
            format!("?actor_id={ada_id}&to={between}"),
            vec!["api_key.created", "user.signed_up"],
        ),
        (
            format!("?from={between}"),
            vec!["api_key.revoked", "api_key.updated"],
        ),
        (format!("?from={between}&to={between}"), vec![]),
        (
            "?from=2020-01-01T00:00:00%2B01:00&to=2020-01-02T00:00:00Z".to_owned(),
            vec![],
        ),
        ("?target_id=nothing".to_owned(), vec![]),
    ] {
        let found = events(&root, &query);
        let actions: Vec<_> = found
            .iter()
            .map(|event| event["action"].as_str().unwrap())
            .collect();
        assert_eq!(actions, expected, "{query}");
    }
    let exact = events(&root, "?action=api_key.updated")[0]["at"]
        .as_str()
        .unwrap()
        .to_owned();
    // `from` is inclusive, `to` is exclusive.
    assert_eq!(events(&root, &format!("?from={exact}")).len(), 2);
    assert_eq!(
        events(&root, &format!("?from={between}&to={exact}")).len(),
        0
    );
    for (query, pointer) in [
        ("?action=api_key.eaten", "?action"),
        ("?actor_id=x", "?actor_id"),
        ("?target_id=%00", "?target_id"),
        ("?from=yesterday", "?from"),
        ("?to=2020-01-01", "?to"),
        ("?limit=0", "?limit"),
        ("?ip=127.0.0.1", "?ip"),
    ] {
        let reply = root.get(&format!("/audit-log{query}"));
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}");
    }
    let cursor = root.get("/audit-log?limit=1");
    let next = cursor.next_page().unwrap();
    ada.get(&next).assert_problem(400, "invalid_cursor");
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        root.send(method, "/audit-log", "")
            .assert_problem(405, "method_not_allowed");
    }
}
