//! `/verify` and `/verify/batch`: a back end verifies the keys of its clients.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, TestServer, path_of},
};

on_both_databases! {
    verify_returns_the_decision_and_its_reason,
    verify_returns_the_first_reason_that_applies,
    batch_results_are_in_the_order_of_the_request,
    invalid_verify_request_is_rejected,
    verify_without_the_keys_verify_scope_is_denied,
    verification_with_cost_0_does_not_update_last_used_at,
    key_change_applies_to_the_next_verification,
}

/// Returns a client whose key has the scope `keys:verify`, and the user Ada, whose keys it verifies.
pub fn verifier(server: &TestServer) -> (Client, Client) {
    let admin = server.admin("admin@example.com");
    let key = admin.create_key_with(&json!({"scopes": ["keys:verify"]}));
    (server.caller(&key), server.user("ada@example.com"))
}

#[track_caller]
pub fn verify_key(verifier: &Client, request: &Value) -> Value {
    let reply = verifier.post_json("/verify", request);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[track_caller]
fn code_of(verifier: &Client, key: &Value, more: Value) -> String {
    let mut request = more;
    request["api_key"] = key["api_key"].clone();
    let result = verify_key(verifier, &request);
    assert_eq!(result["valid"], json!(result["code"] == "valid"));
    assert_eq!(result["key"]["id"], key["id"], "{result}");
    result["code"].as_str().unwrap().to_owned()
}

fn verify_returns_the_decision_and_its_reason(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let key = ada.create_key_with(&json!({"name": "report", "scopes": ["orders:*"]}));
    let request = json!({"api_key": key["api_key"], "scopes": ["orders:read"], "cost": 3});
    let expected = json!({
        "valid": true,
        "code": "valid",
        "key": {
            "id": key["id"], "name": "report", "environment": "live", "scopes": ["orders:*"],
        },
        "user_id": ada.id(),
    });
    // First from the database, then from the cache.
    for _ in 0..2 {
        assert_eq!(verify_key(&verifier, &request), expected);
    }
    let wants = json!({"api_key": key["api_key"], "scopes": ["orders:read", "keys:verify", "x"]});
    let result = verify_key(&verifier, &wants);
    assert_eq!(result["code"], "insufficient_scope");
    assert_eq!(result["missing_scopes"], json!(["keys:verify", "x"]));
    assert_eq!(result["user_id"], expected["user_id"]);

    let unknown = "sk_live_ExampleExampleExampleExample12344Lvtrp";
    for no_key in [
        unknown,
        "",
        "garbage",
        "sk_live_",
        "\u{e9}",
        &"x".repeat(10_000),
    ] {
        let result = verify_key(&verifier, &json!({"api_key": no_key}));
        assert_eq!(result, json!({"valid": false, "code": "not_found"}));
    }
}

fn verify_returns_the_first_reason_that_applies(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let admin = server
        .anonymous()
        .log_in("admin@example.com", crate::support::PASSWORD);
    let limited = json!({
        "scopes": ["orders:read"], "ip_allowlist": ["192.0.2.0/24"], "expires_in_seconds": 3600,
    });
    let key = ada.create_key_with(&limited);
    let from = |address: &str| json!({"client_ip": address, "scopes": ["orders:write"]});
    let good = json!({"client_ip": "192.0.2.7", "scopes": ["orders:read"]});
    assert_eq!(code_of(&verifier, &key, good), "valid");
    assert_eq!(
        code_of(&verifier, &key, from("192.0.2.7")),
        "insufficient_scope"
    );
    assert_eq!(
        code_of(&verifier, &key, from("::ffff:192.0.2.7")),
        "insufficient_scope"
    );
    assert_eq!(
        code_of(&verifier, &key, from("198.51.100.7")),
        "ip_not_allowed"
    );
    assert_eq!(code_of(&verifier, &key, json!({})), "ip_not_allowed");

    let revoked = ada.create_key_with(&limited);
    ada.delete(&path_of(&revoked));
    assert_eq!(
        code_of(&verifier, &revoked, from("198.51.100.7")),
        "revoked"
    );
    server.advance(Duration::from_secs(3600));
    assert_eq!(code_of(&verifier, &key, from("198.51.100.7")), "expired");
    assert_eq!(code_of(&verifier, &revoked, json!({})), "expired");

    let ada = server
        .anonymous()
        .log_in("ada@example.com", crate::support::PASSWORD);
    let disabled = ada.create_key();
    ada.patch_json(&path_of(&disabled), &json!({"enabled": false}));
    assert_eq!(code_of(&verifier, &disabled, json!({})), "disabled");
    ada.delete(&path_of(&disabled));
    assert_eq!(code_of(&verifier, &disabled, json!({})), "disabled");
    let admin = match admin.get("/auth/me").status {
        200 => admin,
        _ => server
            .anonymous()
            .log_in("admin@example.com", crate::support::PASSWORD),
    };
    admin.change_user(&ada.id(), &json!({"active": false}));
    assert_eq!(code_of(&verifier, &key, json!({})), "disabled");
}

fn batch_results_are_in_the_order_of_the_request(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let keys: Vec<_> = (0..20).map(|_| ada.create_key()).collect();
    ada.delete(&path_of(&keys[7]));
    let mut requests: Vec<_> = keys
        .iter()
        .map(|key| json!({"api_key": key["api_key"]}))
        .collect();
    requests.push(json!({"api_key": "garbage"}));
    requests.push(json!({"api_key": keys[0]["api_key"], "scopes": ["x"]}));
    requests.extend((0..78).map(|_| json!({"api_key": keys[1]["api_key"]})));
    for _ in 0..2 {
        let reply = verifier.post_json("/verify/batch", &json!({"keys": requests}));
        assert_eq!(reply.status, 200, "{reply:?}");
        let body = reply.json();
        let results = body["results"].as_array().unwrap();
        assert_eq!(results.len(), 100);
        for (request, result) in requests.iter().zip(results) {
            assert_eq!(*result, verify_key(&verifier, request));
        }
        let codes: Vec<_> = results.iter().map(|result| &result["code"]).collect();
        assert_eq!(codes[6..9], ["valid", "revoked", "valid"]);
        assert_eq!(
            codes[19..23],
            ["valid", "not_found", "insufficient_scope", "valid"]
        );
    }
}

fn invalid_verify_request_is_rejected(server: TestServer) {
    let (verifier, _) = verifier(&server);
    for (request, pointer) in [
        (json!({}), "/api_key"),
        (json!({"api_key": null}), "/api_key"),
        (json!({"api_key": 1}), "/api_key"),
        (json!({"api_key": "x", "scopes": ["a b"]}), "/scopes/0"),
        (json!({"api_key": "x", "scopes": vec!["a"; 65]}), "/scopes"),
        (
            json!({"api_key": "x", "client_ip": "192.0.2.0/24"}),
            "/client_ip",
        ),
        (json!({"api_key": "x", "client_ip": ""}), "/client_ip"),
        (json!({"api_key": "x", "cost": -1}), "/cost"),
        (json!({"api_key": "x", "cost": 1_000_001}), "/cost"),
        (json!({"api_key": "x", "scope": "a"}), "/scope"),
    ] {
        let pointer_of = |reply: crate::support::Reply| {
            reply.assert_problem(422, "validation_failed")["errors"][0]["pointer"].clone()
        };
        assert_eq!(
            pointer_of(verifier.post_json("/verify", &request)),
            pointer,
            "{request}"
        );
        let batch = json!({"keys": [{"api_key": "y"}, request]});
        let reply = verifier.post_json("/verify/batch", &batch);
        assert_eq!(pointer_of(reply), format!("/keys/1{pointer}"), "{request}");
    }
    for (batch, pointer) in [
        (json!({"keys": []}), "/keys"),
        (json!({"keys": vec![json!({"api_key": "x"}); 101]}), "/keys"),
        (json!({}), "/keys"),
        (json!([{"api_key": "x"}]), ""),
    ] {
        let reply = verifier.post_json("/verify/batch", &batch);
        let problem = reply.assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
}

fn verify_without_the_keys_verify_scope_is_denied(server: TestServer) {
    let (_, ada) = verifier(&server);
    let key = ada.create_key();
    let request = json!({"api_key": key["api_key"]});
    let all = ada.create_key_with(&json!({"scopes": ["*"]}));
    for path in ["/verify", "/verify/batch"] {
        for key in [&key, &all] {
            let reply = server.caller(key).post_json(path, &request);
            let problem = reply.assert_problem(403, "insufficient_scope");
            assert_eq!(problem["missing_scopes"], json!(["keys:verify"]));
        }
        ada.post_json(path, &request)
            .assert_problem(401, "invalid_api_key");
        let anonymous = server.anonymous();
        anonymous
            .post_json(path, &request)
            .assert_problem(401, "missing_credentials");
    }
    let requirements = json!({"scopes": ["keys:verify"]});
    ada.post_json("/api-keys", &requirements)
        .assert_problem(403, "permission_denied");
}

fn verification_with_cost_0_does_not_update_last_used_at(mut server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let (probed, used) = (ada.create_key(), ada.create_key());
    let probe = json!({"api_key": probed["api_key"], "cost": 0});
    assert_eq!(verify_key(&verifier, &probe)["code"], "valid");
    let wrong = json!({"api_key": probed["api_key"], "scopes": ["x"]});
    assert_eq!(verify_key(&verifier, &wrong)["code"], "insufficient_scope");
    assert_eq!(
        verify_key(&verifier, &json!({"api_key": used["api_key"]}))["code"],
        "valid"
    );
    server.stop();
    let last_used = "SELECT prefix AS text FROM api_keys WHERE last_used_at IS NOT NULL \
                     AND scopes <> 'keys:verify'";
    assert_eq!(server.query(last_used), [used["prefix"].as_str().unwrap()]);
}

fn key_change_applies_to_the_next_verification(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let admin = server
        .anonymous()
        .log_in("admin@example.com", crate::support::PASSWORD);
    let key = ada.create_key();
    let change = |body: Value| {
        let reply = ada.patch_json(&path_of(&key), &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    let code = |requirements: &Value| code_of(&verifier, &key, requirements.clone());
    let requirements = json!({"scopes": ["orders:read"], "client_ip": "192.0.2.7"});
    for (body, expected) in [
        (json!({}), "insufficient_scope"),
        (json!({"scopes": ["orders:read"]}), "valid"),
        (
            json!({"ip_allowlist": ["198.51.100.0/24"]}),
            "ip_not_allowed",
        ),
        (json!({"ip_allowlist": null}), "valid"),
        (json!({"enabled": false}), "disabled"),
        (json!({"enabled": true}), "valid"),
    ] {
        change(body);
        assert_eq!(code(&requirements), expected);
    }
    let id = ada.id();
    for (active, expected) in [(false, "disabled"), (true, "valid")] {
        admin.change_user(&id, &json!({"active": active}));
        assert_eq!(code(&requirements), expected);
    }
    let ada = server
        .anonymous()
        .log_in("ada@example.com", crate::support::PASSWORD);
    let rotated = ada.post(&format!("{}/rotate", path_of(&key)));
    assert_eq!(rotated.status, 201, "{rotated:?}");
    assert_eq!(code(&requirements), "revoked");
    assert_eq!(code_of(&verifier, &rotated.json(), requirements), "valid");
}
