//! `GET /api-keys`: filters and search.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, TestServer, path_of},
};

fn names(client: &Client, query: &str) -> Vec<String> {
    let reply = client.get(&format!("/api-keys{query}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    let keys = reply.json();
    let name = |key: &Value| key["name"].as_str().unwrap_or("-").to_owned();
    keys.as_array().unwrap().iter().map(name).collect()
}

on_both_databases! {
    key_list_is_filtered_by_status_and_environment,
    key_names_are_searched_case_insensitively,
    next_page_of_keys_keeps_the_filter,
    invalid_key_list_filter_is_rejected,
}

fn key_list_is_filtered_by_status_and_environment(server: TestServer) {
    let ada = server.user("ada@example.com");
    let create = |name: &str, settings: Value| {
        let mut body = json!({"name": name});
        body.as_object_mut()
            .unwrap()
            .extend(settings.as_object().unwrap().clone());
        ada.create_key_with(&body)
    };
    create("active", json!({}));
    create("expiring", json!({"expires_in_seconds": 60}));
    let disabled = create("disabled", json!({"environment": "test"}));
    let both = create("disabled and expired", json!({"expires_in_seconds": 60}));
    let revoked = create("revoked", json!({"environment": "test"}));
    let all = create(
        "revoked, disabled and expired",
        json!({"expires_in_seconds": 60}),
    );
    for key in [&disabled, &both, &all] {
        ada.patch_json(&path_of(key), &json!({"enabled": false}));
    }
    for key in [&revoked, &all] {
        ada.delete(&path_of(key));
    }
    assert_eq!(names(&ada, "?status=active"), ["expiring", "active"]);
    assert_eq!(
        names(&ada, "?status=disabled"),
        ["disabled and expired", "disabled"]
    );
    assert_eq!(names(&ada, "?status=expired"), Vec::<String>::new());
    server.advance(Duration::from_secs(60));
    for (query, expected) in [
        (
            "",
            vec![
                "revoked, disabled and expired",
                "revoked",
                "disabled and expired",
                "disabled",
                "expiring",
                "active",
            ],
        ),
        ("?status=active", vec!["active"]),
        ("?status=disabled", vec!["disabled"]),
        ("?status=expired", vec!["disabled and expired", "expiring"]),
        (
            "?status=revoked",
            vec!["revoked, disabled and expired", "revoked"],
        ),
        ("?environment=test", vec!["revoked", "disabled"]),
        ("?environment=test&status=revoked", vec!["revoked"]),
        ("?environment=live&status=disabled", vec![]),
    ] {
        assert_eq!(names(&ada, query), expected, "{query}");
    }
    // Each list contains only keys with the requested status.
    for status in ["active", "disabled", "expired", "revoked"] {
        for key in ada
            .get(&format!("/api-keys?status={status}"))
            .json()
            .as_array()
            .unwrap()
        {
            assert_eq!(key["status"], status);
        }
    }
}

fn key_names_are_searched_case_insensitively(server: TestServer) {
    let ada = server.user("ada@example.com");
    for name in ["Billing SERVICE", "100% \u{fc}ber_x", "Stra\u{df}e", "a\\b"] {
        ada.create_key_with(&json!({"name": name}));
    }
    ada.create_key();
    for (q, expected) in [
        ("billing", vec!["Billing SERVICE"]),
        ("G%20s", vec!["Billing SERVICE"]),
        ("%C3%9CBER", vec!["100% \u{fc}ber_x"]),
        ("STRASSE", vec!["Stra\u{df}e"]),
        ("%25", vec!["100% \u{fc}ber_x"]),
        ("_", vec!["100% \u{fc}ber_x"]),
        ("%5C", vec!["a\\b"]),
        ("b%25l", vec![]),
        ("%27;--", vec![]),
        ("nothing", vec![]),
    ] {
        assert_eq!(names(&ada, &format!("?q={q}")), expected, "{q}");
    }
    assert_eq!(names(&ada, "?q=").len(), 5);
    // After a key is renamed, only its new name is found.
    let key = ada.get("/api-keys?q=billing").json()[0].clone();
    ada.patch_json(&path_of(&key), &json!({"name": "Orders"}));
    assert_eq!(names(&ada, "?q=ORDERS"), ["Orders"]);
    assert_eq!(names(&ada, "?q=billing"), Vec::<String>::new());
}

fn next_page_of_keys_keeps_the_filter(server: TestServer) {
    let ada = server.user("ada@example.com");
    for number in 0..6 {
        let environment = if number % 2 == 0 { "test" } else { "live" };
        let name = format!("a&b=c {number}");
        ada.create_key_with(&json!({"name": name, "environment": environment}));
    }
    let mut paged = Vec::new();
    let mut next = Some("/api-keys?limit=1&environment=test&q=A%26b%3DC&status=active".to_owned());
    while let Some(path) = next {
        let reply = ada.get(&path);
        paged.push(reply.json()[0]["name"].clone());
        // A key that is created meanwhile is not on the next page.
        ada.create_key_with(&json!({"name": "a&b=c later", "environment": "test"}));
        next = reply.next_page();
    }
    assert_eq!(paged, ["a&b=c 4", "a&b=c 2", "a&b=c 0"]);
}

fn invalid_key_list_filter_is_rejected(server: TestServer) {
    let ada = server.user("ada@example.com");
    for (query, pointer) in [
        ("?status=good", "?status"),
        ("?status=", "?status"),
        ("?status=Active", "?status"),
        ("?status=active&status=revoked", "?status"),
        ("?environment=prod", "?environment"),
        ("?q=%00", "?q"),
        ("?q=%0A", "?q"),
        (&format!("?q={}", "a".repeat(101)), "?q"),
        ("?limit=1&limit=2", "?limit"),
        ("?name=x", "?name"),
        ("?offset=1", "?offset"),
    ] {
        let reply = ada.get(&format!("/api-keys{query}"));
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}");
    }
}
