//! `/forward-auth`: what a gateway learns before it passes a request on.

use serde_json::json;

use crate::{
    on_both_databases,
    support::{TestServer, path_of},
};

on_both_databases! {
    a_good_key_is_let_in_with_its_id_its_scopes_and_its_user,
    the_gateway_says_which_scopes_are_needed,
    any_method_is_answered,
    what_is_mistyped_opens_no_door,
}

fn a_good_key_is_let_in_with_its_id_its_scopes_and_its_user(server: TestServer) {
    let ada = server.user("ada@example.com");
    for scopes in [json!([]), json!(["orders:read", "invoices:*"])] {
        let key = ada.create_key_with(&json!({"scopes": scopes}));
        let text = key["api_key"].as_str().unwrap();
        let anyone = server.anonymous();
        for client in [anyone.with_key(text), anyone.with_token(text)] {
            let reply = client.get("/forward-auth");
            assert_eq!((reply.status, reply.body.as_str()), (200, ""));
            assert_eq!(reply.header("x-api-key-id"), key["id"].as_str());
            let shown = scopes
                .as_array()
                .unwrap()
                .iter()
                .map(|scope| scope.as_str().unwrap());
            let shown = shown.collect::<Vec<_>>().join(" ");
            assert_eq!(reply.header("x-api-key-scopes"), Some(&*shown));
            assert_eq!(reply.header("x-user-id"), Some(&*ada.id()));
        }
        ada.delete(&path_of(&key));
        let refused = anyone.with_key(text).get("/forward-auth");
        refused.assert_problem(401, "invalid_api_key");
        assert_eq!(refused.header("x-api-key-id"), None);
    }
    server
        .anonymous()
        .get("/forward-auth")
        .assert_problem(401, "missing_credentials");
    ada.get("/forward-auth")
        .assert_problem(401, "invalid_api_key");
}

fn the_gateway_says_which_scopes_are_needed(server: TestServer) {
    let ada = server.user("ada@example.com");
    let caller = server.caller(&ada.create_key_with(&json!({"scopes": ["orders:*", "x"]})));
    for good in [
        "",
        "?",
        "?scope=orders:read",
        "?scope=orders%3Aread&scope=x",
        // The rest is the original request's.
        "?scope=x&original=/path?scope=y&a=b",
        "?original=/path?scope=y&a=b",
    ] {
        let reply = caller.get(&format!("/forward-auth{good}"));
        assert_eq!(reply.status, 200, "{good}: {reply:?}");
    }
    let reply = caller.get("/forward-auth?scope=x&scope=y&scope=z");
    let problem = reply.assert_problem(403, "insufficient_scope");
    assert_eq!(problem["missing_scopes"], json!(["y", "z"]));
}

fn any_method_is_answered(server: TestServer) {
    let caller = server.caller(&server.user("ada@example.com").create_key());
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let reply = caller.send(method, "/forward-auth", "");
        assert_eq!(reply.status, 200, "{method}: {reply:?}");
        assert!(reply.header("x-user-id").is_some());
        let reply = server.anonymous().send(method, "/forward-auth", "");
        assert_eq!(reply.status, 401, "{method}: {reply:?}");
    }
}

fn what_is_mistyped_opens_no_door(server: TestServer) {
    let caller = server.caller(&server.user("ada@example.com").create_key());
    for (query, pointer) in [
        ("?scopes=x", "?scopes"),
        ("?scope", "?scope"),
        ("?scope=", "?scope"),
        ("?scope=a%20b", "?scope"),
        ("?a=original=", "?a"),
    ] {
        let path = format!("/forward-auth{query}");
        let problem = caller.get(&path).assert_problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
        // The credential answers first.
        server
            .anonymous()
            .get(&path)
            .assert_problem(401, "missing_credentials");
    }
}
