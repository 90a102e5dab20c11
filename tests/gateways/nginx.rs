//! Behaviour of the nginx recipe alone: nginx discards the body of latchkey's rejection, and writes its own.

use crate::{
    gateway::NGINX,
    responses::{Guarded, allow, response},
    server::Response,
};

const CHALLENGE: (&str, &str) = ("www-authenticate", r#"Bearer realm="latchkey""#);

fn guarded_by(response: Response) -> Option<Guarded> {
    NGINX
        .path_if_installed()
        .map(|recipe| Guarded::by(recipe, response))
}

#[test]
fn nginx_rejection_is_a_problem_with_the_request_id_of_latchkey() {
    for (rejection, status) in [
        (response(401, &[CHALLENGE]), 401),
        (response(403, &[]), 403),
        (response(400, &[]), 400),
        (response(429, &[("retry-after", "12")]), 429),
        (response(503, &[("retry-after", "7")]), 503),
        (response(500, &[]), 500),
        (response(422, &[]), 500),
    ] {
        let Some(guarded) = guarded_by(rejection) else {
            return;
        };
        let reply = guarded.rejection();
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
        let problem = reply.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"));
        let forwarded = guarded.latchkey.requests().pop().expect("a request");
        assert_eq!(
            forwarded.header("x-request-id"),
            reply.header("x-request-id")
        );
        let challenge = (status == 401).then_some(CHALLENGE.1);
        assert_eq!(reply.header("www-authenticate"), challenge);
        let has_wait = matches!(status, 429 | 503);
        assert_eq!(reply.header("retry-after").is_some(), has_wait, "{reply:?}");
    }
}

#[test]
fn internal_nginx_locations_are_unreachable_for_clients() {
    let Some(guarded) = guarded_by(allow("")) else {
        return;
    };
    let client = guarded.gateway.client().with_key("sk");
    for path in [
        "/_latchkey/any-key",
        "/_latchkey/orders-read",
        "/_latchkey/",
    ] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    assert_eq!(guarded.application.requests().len(), 0);
}
