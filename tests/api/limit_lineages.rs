//! Limits of a lineage: a key and its successors by rotation have one rate limit and one quota.

use std::thread;

use serde_json::{Value, json};

use crate::{
    audit_log::events,
    key_rotation::rotate,
    limit_settings::{change, limits, quota, rate_limit},
    on_both_databases,
    support::{Client, TestServer, path_of},
};

on_both_databases! {
    successor_has_the_limits_of_the_old_key,
    limit_change_applies_to_every_unrevoked_key_of_the_lineage,
    limit_change_writes_one_audit_event_per_changed_key,
    concurrent_limit_changes_leave_a_lineage_with_equal_limits,
}

fn successor_has_the_limits_of_the_old_key(server: TestServer) {
    let ada = server.user("ada@example.com");
    let settings = json!({"rate_limit": rate_limit(100, 60), "quota": quota(1000, "day")});
    let mut key = ada.create_key_with(&settings);
    for grace in [0, 600, 0] {
        let reply = rotate(&ada, &key, json!(grace));
        assert_eq!(reply.status, 201, "{reply:?}");
        key = reply.json();
        assert_eq!(key["rate_limit"], settings["rate_limit"]);
        assert_eq!(key["quota"], settings["quota"]);
    }
    let without = rotate(&ada, &ada.create_key(), json!(0)).json();
    assert_eq!(limits(&ada, &without), (Value::Null, Value::Null));
}

/// Creates three keys, each the successor of the one before. The first is revoked.
fn lineage(client: &Client, settings: &Value) -> [Value; 3] {
    let first = client.create_key_with(settings);
    let second = rotate(client, &first, json!(0)).json();
    let third = rotate(client, &second, json!(600)).json();
    [first, second, third]
}

fn limit_change_applies_to_every_unrevoked_key_of_the_lineage(server: TestServer) {
    let ada = server.user("ada@example.com");
    let before = (rate_limit(100, 60), quota(1000, "day"));
    let settings = json!({"rate_limit": before.0, "quota": before.1});
    let [revoked, old, new] = lineage(&ada, &settings);
    let other = ada.create_key_with(&settings);
    for (key, patch, expected) in [
        (
            &old,
            json!({"rate_limit": {"limit": 200}}),
            (rate_limit(200, 60), quota(1000, "day")),
        ),
        (
            &new,
            json!({"quota": {"limit": 5, "period": "month"}}),
            (rate_limit(200, 60), quota(5, "month")),
        ),
        (
            &new,
            json!({"rate_limit": null, "name": "mine"}),
            (Value::Null, quota(5, "month")),
        ),
        (
            &old,
            json!({"quota": null, "rate_limit": rate_limit(3, 1)}),
            (rate_limit(3, 1), Value::Null),
        ),
    ] {
        let changed = change(&ada, key, &patch);
        let shown = (changed["rate_limit"].clone(), changed["quota"].clone());
        assert_eq!(shown, expected, "{patch}");
        for key in [&old, &new] {
            assert_eq!(limits(&ada, key), expected, "{patch}");
        }
        for key in [&revoked, &other] {
            assert_eq!(limits(&ada, key), before, "{patch}");
        }
    }
    // Other settings belong to each key alone.
    assert_eq!(ada.get(&path_of(&new)).json()["name"], "mine");
    assert_eq!(ada.get(&path_of(&old)).json()["name"], Value::Null);
    // A later successor has the changed limits.
    let next = rotate(&ada, &new, json!(0)).json();
    assert_eq!(limits(&ada, &next), (rate_limit(3, 1), Value::Null));
    // The change applies to the next request with any key of the lineage.
    change(&ada, &old, &json!({"rate_limit": rate_limit(1, 86_400)}));
    assert_eq!(server.caller(&next).get("/protected").status, 200);
    server
        .caller(&next)
        .get("/protected")
        .assert_problem(429, "rate_limited");
}

fn limit_change_writes_one_audit_event_per_changed_key(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"rate_limit": rate_limit(100, 60)}));
    let [_, old, new] = lineage(&ada, &json!({"rate_limit": rate_limit(100, 60)}));
    // Target and details of the newest two events, once `count` events exist.
    let newest_events = |count: usize| {
        let mut found: Vec<_> = events(&ada, "?action=api_key.updated")
            .into_iter()
            .map(|event| {
                assert_eq!(event["actor_id"], json!(ada.id()));
                assert_eq!(event["target_type"], "api_key");
                (event["target_id"].clone(), event["details"].clone())
            })
            .collect();
        assert_eq!(found.len(), count, "{found:?}");
        found.truncate(2);
        found
    };
    let changes = |changes: Value| json!({"changes": changes});
    change(&ada, &key, &json!({"quota": quota(5, "day")}));
    let expected = changes(json!({"quota": {"from": null, "to": quota(5, "day")}}));
    assert_eq!(newest_events(1), [(key["id"].clone(), expected)]);

    change(
        &ada,
        &old,
        &json!({"name": "n", "rate_limit": {"limit": 200}}),
    );
    let limit = json!({"from": rate_limit(100, 60), "to": rate_limit(200, 60)});
    let name = json!({"from": null, "to": "n"});
    let both = newest_events(3);
    for (key, expected) in [
        (&old, json!({"name": name, "rate_limit": limit})),
        (&new, json!({"rate_limit": limit})),
    ] {
        let expected = (key["id"].clone(), changes(expected));
        assert!(both.contains(&expected), "{both:?}");
    }

    change(&ada, &new, &json!({"rate_limit": null}));
    let cleared = changes(json!({"rate_limit": {"from": rate_limit(200, 60), "to": null}}));
    let both = newest_events(5);
    for key in [&old, &new] {
        let expected = (key["id"].clone(), cleared.clone());
        assert!(both.contains(&expected), "{both:?}");
    }
    // A change without effect writes no event. A change of one key's own settings writes none for other keys.
    change(&ada, &new, &json!({"rate_limit": null, "quota": null}));
    newest_events(5);
    change(&ada, &old, &json!({"name": "m", "rate_limit": null}));
    assert_eq!(newest_events(6)[0].0, old["id"]);
}

fn concurrent_limit_changes_leave_a_lineage_with_equal_limits(server: TestServer) {
    let ada = server.user("ada@example.com");
    let [_, old, new] = lineage(&ada, &json!({"rate_limit": rate_limit(100, 60)}));
    let threads: Vec<_> = (1..=12)
        .map(|number| {
            let key = if number % 2 == 0 { &old } else { &new };
            let (ada, key) = (ada.clone(), key.clone());
            let patch = match number % 3 {
                0 => json!({"quota": quota(number, "day")}),
                1 => json!({"rate_limit": {"limit": number}}),
                _ => json!({"rate_limit": {"window_seconds": number}}),
            };
            thread::spawn(move || drop(change(&ada, &key, &patch)))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(limits(&ada, &old), limits(&ada, &new));
    // Each member has the value of one of the concurrent changes.
    let (rate_limit, quota) = limits(&ada, &new);
    assert_eq!(rate_limit["limit"].as_u64().unwrap() % 3, 1);
    assert_eq!(rate_limit["window_seconds"].as_u64().unwrap() % 3, 2);
    assert_eq!(quota["limit"].as_u64().unwrap() % 3, 0);
}
