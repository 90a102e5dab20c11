//! `/verify` and `/verify/batch`: what a back end learns of its clients' keys.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, TestServer, path_of},
};

on_both_databases! {
    a_verifier_learns_whether_a_key_is_good_and_why_not,
    the_first_reason_that_applies_is_told,
    a_batch_is_answered_in_order,
    what_is_no_question_is_refused,
    who_may_not_verify_learns_nothing,
    a_look_is_no_use,
    a_change_holds_for_the_next_question,
}

/// Somebody whose key may verify, and somebody with keys to ask about.
pub fn verifier(server: &TestServer) -> (Client, Client) {
    let admin = server.admin("admin@example.com");
    let key = admin.create_key_with(&json!({"scopes": ["keys:verify"]}));
    (server.caller(&key), server.user("ada@example.com"))
}

#[track_caller]
pub fn ask(verifier: &Client, question: &Value) -> Value {
    let reply = verifier.post_json("/verify", question);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[track_caller]
fn code_of(verifier: &Client, key: &Value, more: Value) -> String {
    let mut question = more;
    question["api_key"] = key["api_key"].clone();
    let answer = ask(verifier, &question);
    assert_eq!(answer["valid"], json!(answer["code"] == "valid"));
    assert_eq!(answer["key"]["id"], key["id"], "{answer}");
    answer["code"].as_str().unwrap().to_owned()
}

fn a_verifier_learns_whether_a_key_is_good_and_why_not(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let key = ada.create_key_with(&json!({"name": "report", "scopes": ["orders:*"]}));
    let question = json!({"api_key": key["api_key"], "scopes": ["orders:read"], "cost": 3});
    let expected = json!({
        "valid": true,
        "code": "valid",
        "key": {
            "id": key["id"], "name": "report", "environment": "live", "scopes": ["orders:*"],
        },
        "user_id": ada.id(),
    });
    // From the database, and from memory.
    for _ in 0..2 {
        assert_eq!(ask(&verifier, &question), expected);
    }
    let wants = json!({"api_key": key["api_key"], "scopes": ["orders:read", "keys:verify", "x"]});
    let answer = ask(&verifier, &wants);
    assert_eq!(answer["code"], "insufficient_scope");
    assert_eq!(answer["missing_scopes"], json!(["keys:verify", "x"]));
    assert_eq!(answer["user_id"], expected["user_id"]);

    let unknown = "sk_live_ExampleExampleExampleExample12344Lvtrp";
    for no_key in [
        unknown,
        "",
        "garbage",
        "sk_live_",
        "\u{e9}",
        &"x".repeat(10_000),
    ] {
        let answer = ask(&verifier, &json!({"api_key": no_key}));
        assert_eq!(answer, json!({"valid": false, "code": "not_found"}));
    }
}

fn the_first_reason_that_applies_is_told(server: TestServer) {
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

fn a_batch_is_answered_in_order(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let keys: Vec<_> = (0..20).map(|_| ada.create_key()).collect();
    ada.delete(&path_of(&keys[7]));
    let mut questions: Vec<_> = keys
        .iter()
        .map(|key| json!({"api_key": key["api_key"]}))
        .collect();
    questions.push(json!({"api_key": "garbage"}));
    questions.push(json!({"api_key": keys[0]["api_key"], "scopes": ["x"]}));
    questions.extend((0..78).map(|_| json!({"api_key": keys[1]["api_key"]})));
    for _ in 0..2 {
        let reply = verifier.post_json("/verify/batch", &json!({"keys": questions}));
        assert_eq!(reply.status, 200, "{reply:?}");
        let answers = reply.json();
        let results = answers["results"].as_array().unwrap();
        assert_eq!(results.len(), 100);
        for (question, result) in questions.iter().zip(results) {
            assert_eq!(*result, ask(&verifier, question));
        }
        let codes: Vec<_> = results.iter().map(|result| &result["code"]).collect();
        assert_eq!(codes[6..9], ["valid", "revoked", "valid"]);
        assert_eq!(
            codes[19..23],
            ["valid", "not_found", "insufficient_scope", "valid"]
        );
    }
}

fn what_is_no_question_is_refused(server: TestServer) {
    let (verifier, _) = verifier(&server);
    for (question, pointer) in [
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
        let place = |reply: crate::support::Reply| {
            reply.assert_problem(422, "validation_failed")["errors"][0]["pointer"].clone()
        };
        assert_eq!(
            place(verifier.post_json("/verify", &question)),
            pointer,
            "{question}"
        );
        let batch = json!({"keys": [{"api_key": "y"}, question]});
        let reply = verifier.post_json("/verify/batch", &batch);
        assert_eq!(place(reply), format!("/keys/1{pointer}"), "{question}");
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

fn who_may_not_verify_learns_nothing(server: TestServer) {
    let (_, ada) = verifier(&server);
    let key = ada.create_key();
    let question = json!({"api_key": key["api_key"]});
    let all = ada.create_key_with(&json!({"scopes": ["*"]}));
    for path in ["/verify", "/verify/batch"] {
        for key in [&key, &all] {
            let reply = server.caller(key).post_json(path, &question);
            let problem = reply.assert_problem(403, "insufficient_scope");
            assert_eq!(problem["missing_scopes"], json!(["keys:verify"]));
        }
        ada.post_json(path, &question)
            .assert_problem(401, "invalid_api_key");
        let anyone = server.anonymous();
        anyone
            .post_json(path, &question)
            .assert_problem(401, "missing_credentials");
    }
    let wanted = json!({"scopes": ["keys:verify"]});
    ada.post_json("/api-keys", &wanted)
        .assert_problem(403, "permission_denied");
}

fn a_look_is_no_use(mut server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let (looked_at, used) = (ada.create_key(), ada.create_key());
    let look = json!({"api_key": looked_at["api_key"], "cost": 0});
    assert_eq!(ask(&verifier, &look)["code"], "valid");
    let wrong = json!({"api_key": looked_at["api_key"], "scopes": ["x"]});
    assert_eq!(ask(&verifier, &wrong)["code"], "insufficient_scope");
    assert_eq!(
        ask(&verifier, &json!({"api_key": used["api_key"]}))["code"],
        "valid"
    );
    server.stop();
    let last_used = "SELECT prefix AS text FROM api_keys WHERE last_used_at IS NOT NULL \
                     AND scopes <> 'keys:verify'";
    assert_eq!(server.query(last_used), [used["prefix"].as_str().unwrap()]);
}

fn a_change_holds_for_the_next_question(server: TestServer) {
    let (verifier, ada) = verifier(&server);
    let admin = server
        .anonymous()
        .log_in("admin@example.com", crate::support::PASSWORD);
    let key = ada.create_key();
    let change = |body: Value| {
        let reply = ada.patch_json(&path_of(&key), &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    let code = |wanted: &Value| code_of(&verifier, &key, wanted.clone());
    let wanted = json!({"scopes": ["orders:read"], "client_ip": "192.0.2.7"});
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
        assert_eq!(code(&wanted), expected);
    }
    let id = ada.id();
    for (active, expected) in [(false, "disabled"), (true, "valid")] {
        admin.change_user(&id, &json!({"active": active}));
        assert_eq!(code(&wanted), expected);
    }
    let ada = server
        .anonymous()
        .log_in("ada@example.com", crate::support::PASSWORD);
    let rotated = ada.post(&format!("{}/rotate", path_of(&key)));
    assert_eq!(rotated.status, 201, "{rotated:?}");
    assert_eq!(code(&wanted), "revoked");
    assert_eq!(code_of(&verifier, &rotated.json(), wanted), "valid");
}
