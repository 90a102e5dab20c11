//! Limit headers on every response of the handlers behind the `RequireApiKey` guard.

use actix_web::{HttpResponse, web};
use latchkey::{middleware::RequireApiKey, verification::engine::VerifiedKey};
use serde_json::json;

use crate::{
    limit_headers::{assert_no_limit_headers, assert_state, key_with_both_limits, policy, state},
    limit_settings::rate_limit,
    on_both_databases,
    quotas::set_clock_to_noon,
    rate_limits::{DAY, HOUR, limited, retry_after},
    support::{Client, TestServer},
    wrappers::{engine, start_app},
};

on_both_databases! {
    verify_response_has_the_limit_headers_of_the_verifiers_own_key,
}

fn verify_response_has_the_limit_headers_of_the_verifiers_own_key(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let verifier = server.caller(&admin.create_key_with(&json!({
        "scopes": ["keys:verify"], "rate_limit": rate_limit(4, 4 * HOUR),
    })));
    let checked_key = limited(&admin, 100, 60);
    let request = json!({"api_key": checked_key["api_key"], "cost": 50});
    let batch = json!({"keys": [request, request, request]});
    let policies = json!([["key", {"q": 4, "w": 4 * HOUR}]]);
    for (path, body, status, uses) in [
        ("/verify", &request, 200, 1),
        // A batch is one request for the limits of the verifying key.
        ("/verify/batch", &batch, 200, 2),
        // The same holds if the handler rejects the request.
        ("/verify", &json!({"key": "x"}), 422, 3),
        ("/nothing", &request, 404, 3),
        ("/verify/batch", &json!([]), 422, 4),
        ("/verify", &request, 429, 5),
    ] {
        let reply = verifier.post_json(path, body);
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 404 {
            assert_no_limit_headers(&reply);
            continue;
        }
        assert_eq!(policy(&reply), policies);
        let expected = match status {
            429 => ("key", 0, Some(HOUR)),
            _ => ("key", 4 - uses, Some(uses * HOUR)),
        };
        assert_state(&reply, &[expected]);
    }
}

/// Starts another team's app with handlers behind the guard, and returns a client whose key has 24 tokens.
/// Dropping the server removes the database that the app uses.
fn guarded_handlers() -> (TestServer, Client) {
    let mut server = TestServer::on_sqlite(|_| {});
    let key = key_with_both_limits(&server.user("ada@example.com"), 24, 1000);
    set_clock_to_noon(&server);
    let engine = engine(&mut server);
    let app = start_app(move |app| {
        let wrong = async || HttpResponse::UnprocessableEntity().body("mine");
        let lost = async || HttpResponse::NotFound().body("mine");
        app.app_data(engine.clone()).service(
            web::scope("/orders")
                .wrap(RequireApiKey::new())
                .route("/fine", web::to(async |_: VerifiedKey| "fine"))
                .route("/empty", web::to(async || HttpResponse::NoContent()))
                .route("/teapot", web::to(async || HttpResponse::ImATeapot()))
                .route("/wrong", web::to(wrong))
                .route("/lost", web::to(lost))
                .route("/bare", web::to(async || HttpResponse::NotFound()))
                .route("/broken", web::to(async || HttpResponse::BadGateway())),
        );
    });
    (server, app.with_key(key["api_key"].as_str().unwrap()))
}

/// Asserts the status of each response, and that its limit headers count one more request each time.
#[track_caller]
fn assert_statuses_with_limits(caller: &Client, expected: &[(&str, u16)]) {
    let policies = json!([["key", {"q": 24, "w": DAY}], ["quota", {"q": 1000, "w": DAY}]]);
    let mut uses = 0;
    for (path, status) in expected {
        let reply = caller.get(path);
        assert_eq!(reply.status, *status, "{reply:?}");
        assert_eq!(policy(&reply), policies, "{path}");
        uses += 1;
        let (back, midnight) = (Some(uses * HOUR), Some(DAY / 2));
        assert_state(
            &reply,
            &[("key", 24 - uses, back), ("quota", 1000 - uses, midnight)],
        );
    }
}

#[test]
fn every_response_of_a_guarded_handler_has_limit_headers() {
    let (_server, caller) = guarded_handlers();
    assert_statuses_with_limits(
        &caller,
        &[
            ("/orders/fine", 200),
            ("/orders/empty", 204),
            ("/orders/teapot", 418),
            ("/orders/wrong", 422),
            ("/orders/lost", 404),
        ],
    );
    for _ in 5..24 {
        assert_eq!(caller.get("/orders/fine").status, 200);
    }
    let reply = caller.get("/orders/fine");
    reply.assert_problem(429, "rate_limited");
    assert_eq!(state(&reply)[0][1]["t"], retry_after(&reply));
    // The router rejects an unknown path before the guard runs.
    let reply = caller.get("/elsewhere");
    reply.assert_problem(404, "not_found");
    assert_no_limit_headers(&reply);
}

#[test]
fn bare_error_that_gets_a_problem_body_keeps_its_limit_headers() {
    let (_server, caller) = guarded_handlers();
    assert_statuses_with_limits(
        &caller,
        &[
            ("/orders/broken", 500),
            ("/orders/bare", 404),
            ("/orders/nothing", 404),
        ],
    );
}
