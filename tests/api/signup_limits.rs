//! `SIGNUP_RATE_LIMIT`: how many accounts may be made from one client address.

use std::{thread, time::Duration};

use serde_json::json;

use crate::{
    on_both_databases,
    rate_limits::{HOUR, assert_soon_before, retry_after},
    support::{PASSWORD, Reply, TestServer},
};

/// Asks for an account for `name`, from this address.
fn sign_up(server: &TestServer, address: &str, name: &str) -> Reply {
    let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD});
    let client = server.anonymous().with("x-forwarded-for", address);
    client.post_json("/auth/signup", &body)
}

#[track_caller]
fn assert_made(reply: &Reply) {
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// Asserts that it is refused, and answers for how many seconds.
#[track_caller]
fn assert_too_many(reply: &Reply) -> u64 {
    reply.assert_problem(429, "too_many_attempts");
    retry_after(reply)
}

mod limited {
    use super::*;

    on_both_databases! {
        |config| {
            config.limits.signup_rate_limit = Some("3/10800".parse().unwrap());
            config.trusted_proxies = "127.0.0.0/8".parse().unwrap();
        };
        as_many_accounts_are_made_from_an_address_as_the_limit_says,
        an_address_of_ipv6_is_its_network_of_64_bits,
        many_at_once_make_no_more_than_the_limit,
        what_cannot_be_an_account_takes_nothing,
    }

    fn as_many_accounts_are_made_from_an_address_as_the_limit_says(server: TestServer) {
        for name in ["a", "b", "c"] {
            assert_made(&sign_up(&server, "192.0.2.7", name));
        }
        let wait = assert_too_many(&sign_up(&server, "192.0.2.7", "d"));
        assert_soon_before(wait, HOUR);
        // The same address by other names, and whatever its client says of itself.
        for address in ["::ffff:192.0.2.7", "192.0.2.7:4711", "192.0.2.8, 192.0.2.7"] {
            assert_too_many(&sign_up(&server, address, "d"));
        }
        assert_made(&sign_up(&server, "192.0.2.8", "d"));
        // Whoever has an account logs in.
        let client = server.anonymous().with("x-forwarded-for", "192.0.2.7");
        client.log_in("a@example.com", PASSWORD);

        server.advance(Duration::from_secs(wait));
        assert_made(&sign_up(&server, "192.0.2.7", "e"));
        let wait = assert_too_many(&sign_up(&server, "192.0.2.7", "f"));
        assert_soon_before(wait, HOUR);
    }

    fn an_address_of_ipv6_is_its_network_of_64_bits(server: TestServer) {
        for (name, address) in [
            ("a", "2001:db8:1:2::1"),
            ("b", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
            ("c", "[2001:DB8:1:2:3::]:4711"),
        ] {
            assert_made(&sign_up(&server, address, name));
        }
        for address in ["2001:db8:1:2::1", "2001:db8:1:2:8000::"] {
            assert_too_many(&sign_up(&server, address, "d"));
        }
        for (name, address) in [("d", "2001:db8:1:3::1"), ("e", "2001:db8:0:2::1")] {
            assert_made(&sign_up(&server, address, name));
        }
    }

    fn many_at_once_make_no_more_than_the_limit(server: TestServer) {
        thread::scope(|scope| {
            for number in 0..20 {
                let server = &server;
                scope.spawn(move || sign_up(server, "192.0.2.7", &format!("u{number}")));
            }
        });
        let accounts = server.query("SELECT email AS text FROM users");
        assert_eq!(accounts.len(), 3, "{accounts:?}");
        assert_too_many(&sign_up(&server, "192.0.2.7", "more"));
    }

    fn what_cannot_be_an_account_takes_nothing(server: TestServer) {
        let client = server.anonymous().with("x-forwarded-for", "192.0.2.7");
        for _ in 0..5 {
            let short = json!({"email": "a@example.com", "password": "short"});
            client
                .post_json("/auth/signup", &short)
                .assert_problem(422, "validation_failed");
        }
        for name in ["a", "b", "c"] {
            assert_made(&sign_up(&server, "192.0.2.7", name));
        }
        assert_too_many(&sign_up(&server, "192.0.2.7", "d"));
    }
}

mod by_default {
    use super::*;

    on_both_databases! {
        accounts_are_made_without_end,
    }

    fn accounts_are_made_without_end(server: TestServer) {
        for number in 0..150 {
            assert_made(&sign_up(&server, "192.0.2.7", &format!("u{number}")));
        }
    }
}
