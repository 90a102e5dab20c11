//! What a caller learns of its key's limits, whatever the handler behind the guard answers.

use actix_web::{HttpResponse, web};
use latchkey::{middleware::RequireApiKey, verification::engine::VerifiedKey};
use serde_json::json;

use crate::{
    limit_headers::{assert_nothing_is_said, assert_state, policy, state, with_both},
    limit_settings::rate_limit,
    on_both_databases,
    quotas::go_to_noon,
    rate_limits::{DAY, HOUR, limited, retry_after},
    support::{Client, TestServer},
    wrappers::{engine, own_app},
};

on_both_databases! {
    a_verifier_learns_of_its_own_keys_limits,
}

fn a_verifier_learns_of_its_own_keys_limits(server: TestServer) {
    let admin = server.admin("admin@example.com");
    let verifier = server.caller(&admin.create_key_with(&json!({
        "scopes": ["keys:verify"], "rate_limit": rate_limit(4, 4 * HOUR),
    })));
    let asked = limited(&admin, 100, 60);
    let question = json!({"api_key": asked["api_key"], "cost": 50});
    let batch = json!({"keys": [question, question, question]});
    let policies = json!([["key", {"q": 4, "w": 4 * HOUR}]]);
    for (path, body, status, uses) in [
        ("/verify", &question, 200, 1),
        // Whatever it asks, it is one request.
        ("/verify/batch", &batch, 200, 2),
        // Also where the handler refuses it.
        ("/verify", &json!({"key": "x"}), 422, 3),
        ("/nothing", &question, 404, 3),
        ("/verify/batch", &json!([]), 422, 4),
        ("/verify", &question, 429, 5),
    ] {
        let reply = verifier.post_json(path, body);
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 404 {
            assert_nothing_is_said(&reply);
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

/// Handlers of another team's app behind the guard, for a caller whose key may be used 24 times. What it
/// is on is gone with the server.
fn guarded_handlers() -> (TestServer, Client) {
    let mut server = TestServer::on_sqlite(|_| {});
    let key = with_both(&server.user("ada@example.com"), 24, 1000);
    go_to_noon(&server);
    let engine = engine(&mut server);
    let app = own_app(move |app| {
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

/// Asserts that each is answered so, and says how it stands after one use more.
#[track_caller]
fn assert_told(caller: &Client, answers: &[(&str, u16)]) {
    let policies = json!([["key", {"q": 24, "w": DAY}], ["quota", {"q": 1000, "w": DAY}]]);
    let mut uses = 0;
    for (path, status) in answers {
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
fn a_handler_behind_the_guard_may_answer_what_it_likes() {
    let (_server, caller) = guarded_handlers();
    assert_told(
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
    // The router answers before the guard.
    let reply = caller.get("/elsewhere");
    reply.assert_problem(404, "not_found");
    assert_nothing_is_said(&reply);
}

#[test]
fn a_bare_status_that_is_given_a_body_keeps_what_is_said() {
    let (_server, caller) = guarded_handlers();
    assert_told(
        &caller,
        &[
            ("/orders/broken", 500),
            ("/orders/bare", 404),
            ("/orders/nothing", 404),
        ],
    );
}
