//! `POST /api-keys/{id}/rotate`: another secret for the same key.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, Reply, TestServer, path_of},
};

pub fn rotate(client: &Client, key: &Value, grace: Value) -> Reply {
    let path = format!("{}/rotate", path_of(key));
    client.post_json(&path, &json!({"grace_period_seconds": grace}))
}

on_both_databases! {
    the_successor_has_everything_of_the_old_key,
    without_a_grace_the_old_key_is_dead_when_the_answer_arrives,
    the_old_key_is_good_until_the_grace_ends,
    the_grace_never_outlasts_the_old_keys_own_end,
    a_key_in_its_grace_can_be_revoked_or_shortened_but_not_prolonged,
    rotating_twice_makes_one_successor,
    a_successor_can_be_rotated_again,
    a_grace_has_bounds,
}

fn the_successor_has_everything_of_the_old_key(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key_with(&json!({
        "name": "billing", "environment": "test", "scopes": ["orders:read"],
        "ip_allowlist": ["127.0.0.0/8"], "metadata": {"a": [1]}, "expires_in_seconds": 3600,
    }));
    let old = {
        ada.patch_json(&path_of(&old), &json!({"enabled": false}));
        let mut now = ada.get(&path_of(&old)).json();
        now["api_key"] = old["api_key"].clone();
        now
    };
    let reply = rotate(&ada, &old, json!(60));
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let new = reply.json();
    assert_eq!(reply.header("location"), Some(path_of(&new).as_str()));
    for member in [
        "name",
        "environment",
        "scopes",
        "ip_allowlist",
        "metadata",
        "expires_at",
        "enabled",
        "status",
    ] {
        assert_eq!(new[member], old[member], "{member}");
    }
    assert_eq!(new["rotated_from"], old["id"]);
    for member in ["id", "api_key", "prefix"] {
        assert_ne!(new[member], old[member], "{member}");
    }
    let mut shown = new.clone();
    shown.as_object_mut().unwrap().remove("api_key");
    assert_eq!(ada.get(&path_of(&new)).json(), shown);
}

fn without_a_grace_the_old_key_is_dead_when_the_answer_arrives(server: TestServer) {
    let ada = server.user("ada@example.com");
    for body in [
        "",
        "{}",
        r#"{"grace_period_seconds": 0}"#,
        r#"{"grace_period_seconds": null}"#,
    ] {
        let old = ada.create_key();
        let path = format!("{}/rotate", path_of(&old));
        let reply = match body {
            "" => ada.post(&path),
            body => ada
                .with("content-type", "application/json")
                .send("POST", &path, body),
        };
        assert_eq!(reply.status, 201, "{reply:?}");
        server
            .caller(&old)
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
        assert_eq!(server.caller(&reply.json()).get("/protected").status, 200);
        assert_eq!(ada.get(&path_of(&old)).json()["status"], "revoked");
    }
}

fn the_old_key_is_good_until_the_grace_ends(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key();
    let new = rotate(&ada, &old, json!(600)).json();
    assert_eq!(new["expires_at"], Value::Null);
    assert!(ada.get(&path_of(&old)).json()["expires_at"].is_string());
    server.advance(Duration::from_secs(590));
    for key in [&old, &new] {
        assert_eq!(server.caller(key).get("/protected").status, 200);
    }
    server.advance(Duration::from_secs(10));
    server
        .caller(&old)
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    assert_eq!(server.caller(&new).get("/protected").status, 200);
    assert_eq!(ada.get(&path_of(&old)).json()["status"], "expired");
}

fn the_grace_never_outlasts_the_old_keys_own_end(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key_with(&json!({"expires_in_seconds": 60}));
    assert_eq!(rotate(&ada, &old, json!(600)).status, 201);
    assert_eq!(
        ada.get(&path_of(&old)).json()["expires_at"],
        old["expires_at"]
    );
    server.advance(Duration::from_secs(60));
    server
        .caller(&old)
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
}

fn a_key_in_its_grace_can_be_revoked_or_shortened_but_not_prolonged(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key();
    rotate(&ada, &old, json!(600));
    let path = path_of(&old);
    let end = ada.get(&path).json()["expires_at"].clone();
    for later in [Value::Null, json!("2030-01-01T00:00:00Z")] {
        let reply = ada.patch_json(&path, &json!({"expires_at": later}));
        reply.assert_problem(409, "conflict");
    }
    assert_eq!(
        ada.patch_json(&path, &json!({"name": "old", "expires_at": end}))
            .status,
        200
    );
    let sooner = serde_json::to_value(server.clock.now().plus_seconds(300)).unwrap();
    let shortened = ada.patch_json(&path, &json!({"expires_at": sooner}));
    assert_eq!(shortened.json()["expires_at"], sooner);
    ada.patch_json(&path, &json!({"expires_at": end}))
        .assert_problem(409, "conflict");
    assert_eq!(server.caller(&old).get("/protected").status, 200);
    assert_eq!(ada.delete(&path).json()["status"], "revoked");
    server
        .caller(&old)
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
}

fn rotating_twice_makes_one_successor(server: TestServer) {
    let ada = server.user("ada@example.com");
    for grace in [0, 600] {
        let old = ada.create_key();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (ada, old) = (ada.clone(), old.clone());
                thread::spawn(move || rotate(&ada, &old, json!(grace)))
            })
            .collect();
        let replies: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let (made, refused): (Vec<_>, Vec<_>) =
            replies.into_iter().partition(|reply| reply.status == 201);
        assert_eq!(made.len(), 1, "{refused:?}");
        for reply in refused {
            reply.assert_problem(409, "conflict");
        }
        rotate(&ada, &old, json!(grace)).assert_problem(409, "conflict");
        let keys = ada.get("/api-keys?limit=100").json();
        let successors = keys
            .as_array()
            .unwrap()
            .iter()
            .filter(|key| key["rotated_from"] == old["id"]);
        assert_eq!(successors.count(), 1);
    }
}

fn a_successor_can_be_rotated_again(server: TestServer) {
    let ada = server.user("ada@example.com");
    let mut keys = vec![ada.create_key()];
    for _ in 0..3 {
        let new = rotate(&ada, keys.last().unwrap(), json!(600)).json();
        assert_eq!(new["rotated_from"], keys.last().unwrap()["id"]);
        keys.push(new);
    }
    for key in &keys {
        assert_eq!(server.caller(key).get("/protected").status, 200);
    }
}

fn a_grace_has_bounds(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key();
    for grace in [
        json!(-1),
        json!(604_801),
        json!("5"),
        json!(1.5),
        json!(i64::MAX),
        json!([]),
    ] {
        let problem = rotate(&ada, &old, grace).assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], "/grace_period_seconds");
    }
    assert_eq!(rotate(&ada, &old, json!(604_800)).status, 201);
}
