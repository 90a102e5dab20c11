//! `SIGNUP_RATE_LIMIT`: throttling of signups per client address.

use std::{thread, time::Duration};

use serde_json::json;

use crate::{
    on_both_databases,
    rate_limits::{HOUR, assert_soon_before, retry_after},
    support::{PASSWORD, Reply, TestServer},
};

/// Signs `name` up from this client address.
fn sign_up(server: &TestServer, address: &str, name: &str) -> Reply {
    let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD});
    let client = server.anonymous().with("x-forwarded-for", address);
    client.post_json("/auth/signup", &body)
}

#[track_caller]
fn assert_created(reply: &Reply) {
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// Asserts that the signup is throttled, and returns `Retry-After` in seconds.
#[track_caller]
fn assert_throttled(reply: &Reply) -> u64 {
    reply.assert_problem(429, "too_many_attempts");
    retry_after(reply)
}

mod with_limit {
    use super::*;

    on_both_databases! {
        |config| {
            config.limits.signup_rate_limit = Some("3/10800".parse().unwrap());
            config.trusted_proxies = "127.0.0.0/8".parse().unwrap();
        };
        signups_from_one_address_are_throttled_at_the_limit,
        ipv6_addresses_of_one_64_bit_network_share_the_signup_limit,
        concurrent_signups_do_not_exceed_the_limit,
        invalid_signup_does_not_count_toward_the_limit,
    }

    fn signups_from_one_address_are_throttled_at_the_limit(server: TestServer) {
        for name in ["a", "b", "c"] {
            assert_created(&sign_up(&server, "192.0.2.7", name));
        }
        let wait = assert_throttled(&sign_up(&server, "192.0.2.7", "d"));
        assert_soon_before(wait, HOUR);
        // Other spellings count as the same address. Addresses that the client itself prepends are ignored.
        for address in ["::ffff:192.0.2.7", "192.0.2.7:4711", "192.0.2.8, 192.0.2.7"] {
            assert_throttled(&sign_up(&server, address, "d"));
        }
        assert_created(&sign_up(&server, "192.0.2.8", "d"));
        // Logins are not affected.
        let client = server.anonymous().with("x-forwarded-for", "192.0.2.7");
        client.log_in("a@example.com", PASSWORD);

        server.advance(Duration::from_secs(wait));
        assert_created(&sign_up(&server, "192.0.2.7", "e"));
        let wait = assert_throttled(&sign_up(&server, "192.0.2.7", "f"));
        assert_soon_before(wait, HOUR);
    }

    fn ipv6_addresses_of_one_64_bit_network_share_the_signup_limit(server: TestServer) {
        for (name, address) in [
            ("a", "2001:db8:1:2::1"),
            ("b", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
            ("c", "[2001:DB8:1:2:3::]:4711"),
        ] {
            assert_created(&sign_up(&server, address, name));
        }
        for address in ["2001:db8:1:2::1", "2001:db8:1:2:8000::"] {
            assert_throttled(&sign_up(&server, address, "d"));
        }
        for (name, address) in [("d", "2001:db8:1:3::1"), ("e", "2001:db8:0:2::1")] {
            assert_created(&sign_up(&server, address, name));
        }
    }

    fn concurrent_signups_do_not_exceed_the_limit(server: TestServer) {
        thread::scope(|scope| {
            for number in 0..20 {
                let server = &server;
                scope.spawn(move || sign_up(server, "192.0.2.7", &format!("u{number}")));
            }
        });
        let accounts = server.query("SELECT email AS text FROM users");
        assert_eq!(accounts.len(), 3, "{accounts:?}");
        assert_throttled(&sign_up(&server, "192.0.2.7", "more"));
    }

    fn invalid_signup_does_not_count_toward_the_limit(server: TestServer) {
        let client = server.anonymous().with("x-forwarded-for", "192.0.2.7");
        for _ in 0..5 {
            let short = json!({"email": "a@example.com", "password": "short"});
            client
                .post_json("/auth/signup", &short)
                .assert_problem(422, "validation_failed");
        }
        for name in ["a", "b", "c"] {
            assert_created(&sign_up(&server, "192.0.2.7", name));
        }
        assert_throttled(&sign_up(&server, "192.0.2.7", "d"));
    }
}

mod without_limit {
    use super::*;

    on_both_databases! {
        signups_are_unlimited_by_default,
    }

    fn signups_are_unlimited_by_default(server: TestServer) {
        for number in 0..150 {
            assert_created(&sign_up(&server, "192.0.2.7", &format!("u{number}")));
        }
    }
}
