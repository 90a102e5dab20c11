//! What nginx does that others do not: it loses the body of latchkey's answer, and writes one itself.

use crate::{
    answers::{Guarded, answer, yes},
    gateway::NGINX,
    server::Answer,
};

const CHALLENGE: (&str, &str) = ("www-authenticate", r#"Bearer realm="latchkey""#);

fn guarded_by(answer: Answer) -> Option<Guarded> {
    NGINX
        .if_installed()
        .map(|recipe| Guarded::by(recipe, answer))
}

#[test]
fn a_refusal_is_a_problem_with_the_id_that_latchkey_knows() {
    for (told, status) in [
        (answer(401, &[CHALLENGE]), 401),
        (answer(403, &[]), 403),
        (answer(400, &[]), 400),
        (answer(429, &[("retry-after", "12")]), 429),
        (answer(503, &[("retry-after", "7")]), 503),
        (answer(500, &[]), 500),
        (answer(422, &[]), 500),
    ] {
        let Some(guarded) = guarded_by(told) else {
            return;
        };
        let reply = guarded.refusal();
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
        let problem = reply.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"));
        let asked = guarded.latchkey.requests().pop().expect("a question");
        assert_eq!(asked.header("x-request-id"), reply.header("x-request-id"));
        let challenge = (status == 401).then_some(CHALLENGE.1);
        assert_eq!(reply.header("www-authenticate"), challenge);
        let waits = matches!(status, 429 | 503);
        assert_eq!(reply.header("retry-after").is_some(), waits, "{reply:?}");
    }
}

#[test]
fn clients_cannot_ask_latchkey_through_it() {
    let Some(guarded) = guarded_by(yes("")) else {
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
