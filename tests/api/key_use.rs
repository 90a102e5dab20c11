//! Use of a key: its allowlist, the client address behind proxies, and `last_used_at`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, Program, TestServer, path_of, program::QUICK},
};

/// Returns a client with a new key that has these allowlist entries.
fn caller_from_allowlist(server: &TestServer, networks: &[&str]) -> Client {
    let ada = server.user("ada@example.com");
    server.caller(&ada.create_key_with(&json!({"ip_allowlist": networks})))
}

mod direct_connection {
    use super::*;

    on_both_databases! {
        key_is_accepted_only_from_its_allowlist,
        forwarding_headers_without_a_trusted_proxy_are_ignored,
        expired_key_outside_its_allowlist_is_rejected_as_invalid,
    }

    fn key_is_accepted_only_from_its_allowlist(server: TestServer) {
        let ada = server.user("ada@example.com");
        for (networks, status) in [
            (json!([]), 200),
            (json!(["127.0.0.1"]), 200),
            (json!(["192.0.2.0/24", "127.0.0.0/8"]), 200),
            (json!(["::ffff:127.0.0.1"]), 200),
            (json!(["0.0.0.0/0"]), 200),
            (json!(["192.0.2.0/24"]), 403),
            (json!(["127.0.0.2"]), 403),
            (json!(["::1"]), 403),
            (json!(["::/0"]), 403),
        ] {
            let caller = server.caller(&ada.create_key_with(&json!({"ip_allowlist": networks})));
            let reply = caller.get("/protected");
            match status {
                403 => drop(reply.assert_problem(403, "ip_not_allowed")),
                _ => assert_eq!(reply.status, status, "{networks}"),
            }
        }
    }

    fn forwarding_headers_without_a_trusted_proxy_are_ignored(server: TestServer) {
        let inside = caller_from_allowlist(&server, &["127.0.0.1"]);
        let outside = {
            let ada = server
                .anonymous()
                .log_in("ada@example.com", crate::support::PASSWORD);
            server.caller(&ada.create_key_with(&json!({"ip_allowlist": ["192.0.2.1"]})))
        };
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("true-client-ip", "192.0.2.1"),
            ("cf-connecting-ip", "192.0.2.1"),
            ("x-client-ip", "192.0.2.1"),
        ] {
            assert_eq!(
                inside.with(name, value).get("/protected").status,
                200,
                "{name}"
            );
            let reply = outside.with(name, value).get("/protected");
            reply.assert_problem(403, "ip_not_allowed");
        }
    }

    fn expired_key_outside_its_allowlist_is_rejected_as_invalid(server: TestServer) {
        let ada = server.user("ada@example.com");
        let settings = json!({"ip_allowlist": ["192.0.2.1"], "expires_in_seconds": 60});
        let key = ada.create_key_with(&settings);
        let caller = server.caller(&key);
        caller
            .get("/protected")
            .assert_problem(403, "ip_not_allowed");
        // A defect of the key itself is reported before the allowlist.
        server.advance(Duration::from_secs(60));
        caller
            .get("/protected")
            .assert_problem(401, "invalid_api_key");
    }
}

mod behind_a_proxy {
    use super::*;

    on_both_databases! {
        |config| config.trusted_proxies = "127.0.0.0/8, 10.0.0.0/8".parse().unwrap();
        allowlist_applies_to_the_client_address_that_a_trusted_proxy_reports,
        unreadable_client_address_is_in_no_network,
        failed_logins_behind_a_proxy_are_throttled_by_client_address,
    }

    fn allowlist_applies_to_the_client_address_that_a_trusted_proxy_reports(server: TestServer) {
        let caller = caller_from_allowlist(&server, &["192.0.2.0/24"]);
        caller
            .get("/protected")
            .assert_problem(403, "ip_not_allowed");
        for (name, value, allowed) in [
            ("x-forwarded-for", "192.0.2.7", true),
            ("x-forwarded-for", "198.51.100.1, 192.0.2.7", true),
            ("x-forwarded-for", "192.0.2.7, 10.1.2.3", true),
            ("x-forwarded-for", "::ffff:192.0.2.7", true),
            ("x-forwarded-for", "192.0.2.7:4711", true),
            ("x-forwarded-for", "192.0.2.7, 198.51.100.1", false),
            ("x-forwarded-for", "garbage,,\", 192.0.2.7", true),
            ("forwarded", "for=\"198.51.100.1, for=192.0.2.7", true),
            (
                "forwarded",
                "for=198.51.100.1, for=192.0.2.7;proto=https",
                true,
            ),
            ("forwarded", "for=\"192.0.2.7:4711\"", true),
            ("forwarded", "for=192.0.2.7, for=198.51.100.1", false),
            ("x-real-ip", "192.0.2.7", false),
        ] {
            let reply = caller.with(name, value).get("/protected");
            assert_eq!(
                reply.status,
                if allowed { 200 } else { 403 },
                "{name}: {value}"
            );
        }
        // A proxy that writes one of the two headers passes the other one on as the client sent it.
        let forged = caller.with("forwarded", "for=192.0.2.7");
        forged
            .with("x-forwarded-for", "198.51.100.1")
            .get("/protected")
            .assert_problem(403, "ip_not_allowed");
    }

    fn unreadable_client_address_is_in_no_network(server: TestServer) {
        // It is not even in the networks of the proxies.
        let caller =
            caller_from_allowlist(&server, &["127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "::/0"]);
        assert_eq!(
            caller
                .with("x-forwarded-for", "10.1.2.3")
                .get("/protected")
                .status,
            200
        );
        for (name, value) in [
            ("x-forwarded-for", "unknown"),
            ("x-forwarded-for", "192.0.2.7, "),
            ("forwarded", "for=_secret"),
            ("forwarded", "for=\"192.0.2.7, for=127.0.0.1"),
        ] {
            let reply = caller.with(name, value).get("/protected");
            reply.assert_problem(403, "ip_not_allowed");
        }
    }

    fn failed_logins_behind_a_proxy_are_throttled_by_client_address(server: TestServer) {
        server.user("ada@example.com");
        let from = |address: &str| server.anonymous().with("x-forwarded-for", address);
        for number in 0..100 {
            let wrong = json!({"email": format!("u{number}@example.com"), "password": "wrong"});
            let reply = from("192.0.2.7").post_json("/auth/login", &wrong);
            reply.assert_problem(401, "invalid_credentials");
        }
        let right = json!({"email": "ada@example.com", "password": crate::support::PASSWORD});
        let forged = from("198.51.100.1, 192.0.2.7").post_json("/auth/login", &right);
        forged.assert_problem(429, "too_many_attempts");
        assert_eq!(
            from("192.0.2.8").post_json("/auth/login", &right).status,
            200
        );
    }
}

mod last_used_at {
    use super::*;

    on_both_databases! {
        |config| config.usage.last_used_interval = Duration::from_millis(20);
        last_used_at_is_updated_by_accepted_requests_only,
        shutdown_while_last_used_at_is_written_loses_no_update,
    }

    fn last_used(client: &Client, key: &Value) -> Value {
        client.get(&path_of(key)).json()["last_used_at"].clone()
    }

    /// Waits until `last_used_at` of every key is later than `after`, for at most 20 seconds.
    fn await_last_used(client: &Client, keys: &[Value], after: &Value) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_later = |key: &Value| match last_used(client, key).as_str() {
            Some(at) => *at > *after.as_str().unwrap(),
            None => false,
        };
        while !keys.iter().all(is_later) {
            assert!(
                Instant::now() < deadline,
                "`last_used_at` was not written within 20 seconds"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn last_used_at_is_updated_by_accepted_requests_only(server: TestServer) {
        let ada = server.user("ada@example.com");
        let used = ada.create_key();
        let rejected = ada.create_key_with(&json!({"ip_allowlist": ["192.0.2.1"]}));
        for _ in 0..2 {
            server.advance(Duration::from_secs(1));
            let before = serde_json::to_value(server.clock.now()).unwrap();
            server
                .caller(&rejected)
                .get("/protected")
                .assert_problem(403, "ip_not_allowed");
            assert_eq!(server.caller(&used).get("/protected").status, 200);
            await_last_used(&ada, std::slice::from_ref(&used), &before);
            let after = serde_json::to_value(server.clock.now()).unwrap();
            assert!(last_used(&ada, &used).as_str() <= after.as_str());
        }
        assert_eq!(last_used(&ada, &rejected), Value::Null);
    }

    fn shutdown_while_last_used_at_is_written_loses_no_update(mut server: TestServer) {
        let ada = server.user("ada@example.com");
        // More keys than one batch of writes holds.
        let keys: Vec<_> = (0..600).map(|_| ada.create_key()).collect();
        for key in &keys {
            assert_eq!(server.caller(key).get("/protected").status, 200);
        }
        server.stop();
        let missing = "SELECT prefix AS text FROM api_keys WHERE last_used_at IS NULL";
        assert_eq!(server.query(missing), Vec::<String>::new());
    }
}

#[test]
fn last_used_at_is_written_on_graceful_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let ada = program.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let caller = program.client().with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);
    program.stop();

    let program = Program::start(folder.path(), &QUICK);
    let ada = program
        .client()
        .log_in("ada@example.com", crate::support::PASSWORD);
    let used_at = ada.get(&path_of(&key)).json()["last_used_at"].clone();
    assert!(used_at.as_str().unwrap() > key["created_at"].as_str().unwrap());
}
