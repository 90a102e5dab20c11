//! What Caddy does that others do not: it passes latchkey's refusal on as it is.

use crate::{
    answers::{Guarded, answer},
    gateway::CADDY,
};

#[test]
fn a_refusal_is_latchkeys_own() {
    let Some(recipe) = CADDY.if_installed() else {
        return;
    };
    for status in [400, 401, 403, 422, 429, 500, 503] {
        let headers = [
            ("content-type", "application/problem+json"),
            ("www-authenticate", r#"Bearer realm="latchkey""#),
            ("x-request-id", "0d9e"),
        ];
        let told = answer(status, &headers);
        let reply = Guarded::by(recipe, told.clone()).refusal();
        assert_eq!(reply.status, status);
        assert_eq!(reply.body, told.body);
        for (name, value) in headers {
            assert_eq!(reply.header(name), Some(value), "{reply:?}");
        }
    }
}
