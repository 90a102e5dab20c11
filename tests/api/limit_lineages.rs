//! Keys that come from one another by rotation have one rate limit and one quota.

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
    a_successor_has_the_limits_of_the_old_key,
    a_change_is_one_of_all_keys_that_come_from_another,
    each_key_that_changes_is_told_of,
    changes_of_a_lineage_at_once_agree_in_the_end,
}

fn a_successor_has_the_limits_of_the_old_key(server: TestServer) {
    let ada = server.user("ada@example.com");
    let chosen = json!({"rate_limit": rate_limit(100, 60), "quota": quota(1000, "day")});
    let mut key = ada.create_key_with(&chosen);
    for grace in [0, 600, 0] {
        let reply = rotate(&ada, &key, json!(grace));
        assert_eq!(reply.status, 201, "{reply:?}");
        key = reply.json();
        assert_eq!(key["rate_limit"], chosen["rate_limit"]);
        assert_eq!(key["quota"], chosen["quota"]);
    }
    let without = rotate(&ada, &ada.create_key(), json!(0)).json();
    assert_eq!(limits(&ada, &without), (Value::Null, Value::Null));
}

/// Three keys of which each is the successor of the one before. The first is revoked.
fn lineage(client: &Client, chosen: &Value) -> [Value; 3] {
    let first = client.create_key_with(chosen);
    let second = rotate(client, &first, json!(0)).json();
    let third = rotate(client, &second, json!(600)).json();
    [first, second, third]
}

fn a_change_is_one_of_all_keys_that_come_from_another(server: TestServer) {
    let ada = server.user("ada@example.com");
    let before = (rate_limit(100, 60), quota(1000, "day"));
    let chosen = json!({"rate_limit": before.0, "quota": before.1});
    let [revoked, old, new] = lineage(&ada, &chosen);
    let other = ada.create_key_with(&chosen);
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
    // The rest is each key's own.
    assert_eq!(ada.get(&path_of(&new)).json()["name"], "mine");
    assert_eq!(ada.get(&path_of(&old)).json()["name"], Value::Null);
    // What comes later has what was changed.
    let next = rotate(&ada, &new, json!(0)).json();
    assert_eq!(limits(&ada, &next), (rate_limit(3, 1), Value::Null));
    // It holds for the next request with whichever of them.
    change(&ada, &old, &json!({"rate_limit": rate_limit(1, 86_400)}));
    assert_eq!(server.caller(&next).get("/protected").status, 200);
    server
        .caller(&next)
        .get("/protected")
        .assert_problem(429, "rate_limited");
}

fn each_key_that_changes_is_told_of(server: TestServer) {
    let ada = server.user("ada@example.com");
    let key = ada.create_key_with(&json!({"rate_limit": rate_limit(100, 60)}));
    let [_, old, new] = lineage(&ada, &json!({"rate_limit": rate_limit(100, 60)}));
    // Of each key that was changed, by now: what the newest event tells.
    let told = |count: usize| {
        let mut told: Vec<_> = events(&ada, "?action=api_key.updated")
            .into_iter()
            .map(|event| {
                assert_eq!(event["actor_id"], json!(ada.id()));
                assert_eq!(event["target_type"], "api_key");
                (event["target_id"].clone(), event["details"].clone())
            })
            .collect();
        assert_eq!(told.len(), count, "{told:?}");
        told.truncate(2);
        told
    };
    let changes = |changes: Value| json!({"changes": changes});
    change(&ada, &key, &json!({"quota": quota(5, "day")}));
    let expected = changes(json!({"quota": {"from": null, "to": quota(5, "day")}}));
    assert_eq!(told(1), [(key["id"].clone(), expected)]);

    change(
        &ada,
        &old,
        &json!({"name": "n", "rate_limit": {"limit": 200}}),
    );
    let limit = json!({"from": rate_limit(100, 60), "to": rate_limit(200, 60)});
    let name = json!({"from": null, "to": "n"});
    let both = told(3);
    for (key, expected) in [
        (&old, json!({"name": name, "rate_limit": limit})),
        (&new, json!({"rate_limit": limit})),
    ] {
        let expected = (key["id"].clone(), changes(expected));
        assert!(both.contains(&expected), "{both:?}");
    }

    change(&ada, &new, &json!({"rate_limit": null}));
    let cleared = changes(json!({"rate_limit": {"from": rate_limit(200, 60), "to": null}}));
    let both = told(5);
    for key in [&old, &new] {
        let expected = (key["id"].clone(), cleared.clone());
        assert!(both.contains(&expected), "{both:?}");
    }
    // What changes nothing is not told of, and a change of one key's own of no other.
    change(&ada, &new, &json!({"rate_limit": null, "quota": null}));
    told(5);
    change(&ada, &old, &json!({"name": "m", "rate_limit": null}));
    assert_eq!(told(6)[0].0, old["id"]);
}

fn changes_of_a_lineage_at_once_agree_in_the_end(server: TestServer) {
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
    // Each member is as one of them left it.
    let (rate_limit, quota) = limits(&ada, &new);
    assert_eq!(rate_limit["limit"].as_u64().unwrap() % 3, 1);
    assert_eq!(rate_limit["window_seconds"].as_u64().unwrap() % 3, 2);
    assert_eq!(quota["limit"].as_u64().unwrap() % 3, 0);
}
