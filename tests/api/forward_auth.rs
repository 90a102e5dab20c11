//! `/forward-auth`: the check that a gateway makes before it forwards a request.

use serde_json::json;

use crate::{
    on_both_databases,
    support::{TestServer, path_of},
};

on_both_databases! {
    valid_key_is_accepted_with_its_id_scopes_and_user,
    scopes_in_the_query_of_the_gateway_are_required,
    forward_auth_accepts_every_method,
    mistyped_forward_auth_query_is_rejected,
}

fn valid_key_is_accepted_with_its_id_scopes_and_user(server: TestServer) {
    let ada = server.user("ada@example.com");
    for scopes in [json!([]), json!(["orders:read", "invoices:*"])] {
        let key = ada.create_key_with(&json!({"scopes": scopes}));
        let plain_key = key["api_key"].as_str().unwrap();
        let anonymous = server.anonymous();
        for client in [
            anonymous.with_key(plain_key),
            anonymous.with_token(plain_key),
        ] {
            let reply = client.get("/forward-auth");
            assert_eq!((reply.status, reply.body.as_str()), (200, ""));
            assert_eq!(reply.header("x-api-key-id"), key["id"].as_str());
            let expected = scopes
                .as_array()
                .unwrap()
                .iter()
                .map(|scope| scope.as_str().unwrap());
            let expected = expected.collect::<Vec<_>>().join(" ");
            assert_eq!(reply.header("x-api-key-scopes"), Some(&*expected));
            assert_eq!(reply.header("x-user-id"), Some(&*ada.id()));
        }
        ada.delete(&path_of(&key));
        let rejected = anonymous.with_key(plain_key).get("/forward-auth");
        rejected.assert_problem(401, "invalid_api_key");
        assert_eq!(rejected.header("x-api-key-id"), None);
    }
    server
        .anonymous()
        .get("/forward-auth")
        .assert_problem(401, "missing_credentials");
    ada.get("/forward-auth")
        .assert_problem(401, "invalid_api_key");
}

fn scopes_in_the_query_of_the_gateway_are_required(server: TestServer) {
    let ada = server.user("ada@example.com");
    let caller = server.caller(&ada.create_key_with(&json!({"scopes": ["orders:*", "x"]})));
    for query in [
        "",
        "?",
        "?scope=orders:read",
        "?scope=orders%3Aread&scope=x",
        // Everything after `original=` belongs to the original request.
        "?scope=x&original=/path?scope=y&a=b",
        "?original=/path?scope=y&a=b",
    ] {
        let reply = caller.get(&format!("/forward-auth{query}"));
        assert_eq!(reply.status, 200, "{query}: {reply:?}");
    }
    let reply = caller.get("/forward-auth?scope=x&scope=y&scope=z");
    let problem = reply.assert_problem(403, "insufficient_scope");
    assert_eq!(problem["missing_scopes"], json!(["y", "z"]));
}

fn forward_auth_accepts_every_method(server: TestServer) {
    let caller = server.caller(&server.user("ada@example.com").create_key());
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let reply = caller.send(method, "/forward-auth", "");
        assert_eq!(reply.status, 200, "{method}: {reply:?}");
        assert!(reply.header("x-user-id").is_some());
        let reply = server.anonymous().send(method, "/forward-auth", "");
        assert_eq!(reply.status, 401, "{method}: {reply:?}");
    }
}

fn mistyped_forward_auth_query_is_rejected(server: TestServer) {
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
        // The credential is checked first.
        server
            .anonymous()
            .get(&path)
            .assert_problem(401, "missing_credentials");
    }
}
