//! `POST /api-keys/{id}/rotate`: replaces a key with a successor that has the same settings.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, Reply, TestServer, path_of},
};

/// Rotates a key with this grace period, in seconds.
pub fn rotate(client: &Client, key: &Value, grace: Value) -> Reply {
    let path = format!("{}/rotate", path_of(key));
    client.post_json(&path, &json!({"grace_period_seconds": grace}))
}

on_both_databases! {
    successor_has_every_setting_of_the_old_key,
    old_key_without_a_grace_period_is_rejected_once_rotate_returns,
    old_key_is_accepted_until_its_grace_period_ends,
    grace_period_does_not_extend_the_expiry_of_the_old_key,
    key_in_its_grace_period_can_be_revoked_or_shortened_but_not_extended,
    concurrent_and_repeated_rotations_create_one_successor,
    successor_can_be_rotated_again,
    grace_period_outside_0_to_604800_seconds_is_rejected,
}

fn successor_has_every_setting_of_the_old_key(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key_with(&json!({
        "name": "billing", "environment": "test", "scopes": ["orders:read"],
        "ip_allowlist": ["127.0.0.0/8"], "metadata": {"a": [1]}, "expires_in_seconds": 3600,
    }));
    let old = {
        ada.patch_json(&path_of(&old), &json!({"enabled": false}));
        let mut current = ada.get(&path_of(&old)).json();
        current["api_key"] = old["api_key"].clone();
        current
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
    let mut without_secret = new.clone();
    without_secret.as_object_mut().unwrap().remove("api_key");
    assert_eq!(ada.get(&path_of(&new)).json(), without_secret);
}

fn old_key_without_a_grace_period_is_rejected_once_rotate_returns(server: TestServer) {
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

fn old_key_is_accepted_until_its_grace_period_ends(server: TestServer) {
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

fn grace_period_does_not_extend_the_expiry_of_the_old_key(server: TestServer) {
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

fn key_in_its_grace_period_can_be_revoked_or_shortened_but_not_extended(server: TestServer) {
    let ada = server.user("ada@example.com");
    let old = ada.create_key();
    rotate(&ada, &old, json!(600));
    let path = path_of(&old);
    let grace_end = ada.get(&path).json()["expires_at"].clone();
    for later in [Value::Null, json!("2030-01-01T00:00:00Z")] {
        let reply = ada.patch_json(&path, &json!({"expires_at": later}));
        reply.assert_problem(409, "conflict");
    }
    assert_eq!(
        ada.patch_json(&path, &json!({"name": "old", "expires_at": grace_end}))
            .status,
        200
    );
    let sooner = serde_json::to_value(server.clock.now().plus_seconds(300)).unwrap();
    let shortened = ada.patch_json(&path, &json!({"expires_at": sooner}));
    assert_eq!(shortened.json()["expires_at"], sooner);
    ada.patch_json(&path, &json!({"expires_at": grace_end}))
        .assert_problem(409, "conflict");
    assert_eq!(server.caller(&old).get("/protected").status, 200);
    assert_eq!(ada.delete(&path).json()["status"], "revoked");
    server
        .caller(&old)
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
}

fn concurrent_and_repeated_rotations_create_one_successor(server: TestServer) {
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
        let (rotated, rejected): (Vec<_>, Vec<_>) =
            replies.into_iter().partition(|reply| reply.status == 201);
        assert_eq!(rotated.len(), 1, "{rejected:?}");
        for reply in rejected {
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

fn successor_can_be_rotated_again(server: TestServer) {
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

fn grace_period_outside_0_to_604800_seconds_is_rejected(server: TestServer) {
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
