//! Behaviour of the Caddy recipe alone: it passes latchkey's rejections on unchanged.

use crate::{
    gateway::CADDY,
    responses::{Guarded, response},
};

#[test]
fn caddy_passes_the_rejection_of_latchkey_on_unchanged() {
    let Some(recipe) = CADDY.path_if_installed() else {
        return;
    };
    for status in [400, 401, 403, 422, 429, 500, 503] {
        let headers = [
            ("content-type", "application/problem+json"),
            ("www-authenticate", r#"Bearer realm="latchkey""#),
            ("x-request-id", "0d9e"),
        ];
        let rejection = response(status, &headers);
        let reply = Guarded::by(recipe, rejection.clone()).rejection();
        assert_eq!(reply.status, status);
        assert_eq!(reply.body, rejection.body);
        for (name, value) in headers {
            assert_eq!(reply.header(name), Some(value), "{reply:?}");
        }
    }
}
