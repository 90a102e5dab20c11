//! From where a key may be used, what for, and when it was used last.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    on_both_databases,
    support::{Client, Program, TestServer, path_of, program::QUICK},
};

fn key_for(server: &TestServer, networks: &[&str]) -> Client {
    let ada = server.user("ada@example.com");
    server.caller(&ada.create_key_with(&json!({"ip_allowlist": networks})))
}

mod direct {
    use super::*;

    on_both_databases! {
        a_key_is_good_only_from_its_networks,
        a_forged_header_changes_nothing,
        the_reason_is_told_in_the_contracts_order,
    }

    fn a_key_is_good_only_from_its_networks(server: TestServer) {
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

    fn a_forged_header_changes_nothing(server: TestServer) {
        let inside = key_for(&server, &["127.0.0.1"]);
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

    fn the_reason_is_told_in_the_contracts_order(server: TestServer) {
        let ada = server.user("ada@example.com");
        let chosen = json!({"ip_allowlist": ["192.0.2.1"], "expires_in_seconds": 60});
        let key = ada.create_key_with(&chosen);
        let caller = server.caller(&key);
        caller
            .get("/protected")
            .assert_problem(403, "ip_not_allowed");
        // Whatever is wrong with the key itself comes before.
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
        the_address_that_the_proxy_vouches_for_counts,
        an_address_that_nobody_can_read_is_in_no_network,
        logins_are_limited_by_the_clients_own_address,
    }

    fn the_address_that_the_proxy_vouches_for_counts(server: TestServer) {
        let caller = key_for(&server, &["192.0.2.0/24"]);
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
        // A proxy that writes the one passes on whatever the client sent as the other.
        let forged = caller.with("forwarded", "for=192.0.2.7");
        forged
            .with("x-forwarded-for", "198.51.100.1")
            .get("/protected")
            .assert_problem(403, "ip_not_allowed");
    }

    fn an_address_that_nobody_can_read_is_in_no_network(server: TestServer) {
        // Not even in the proxies' own.
        let caller = key_for(&server, &["127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "::/0"]);
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

    fn logins_are_limited_by_the_clients_own_address(server: TestServer) {
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

mod noted {
    use super::*;

    on_both_databases! {
        |config| config.usage.last_used_interval = Duration::from_millis(20);
        a_use_is_noted_soon_and_a_refusal_is_not,
        a_stop_in_the_middle_of_noting_loses_nothing,
    }

    fn last_used(client: &Client, key: &Value) -> Value {
        client.get(&path_of(key)).json()["last_used_at"].clone()
    }

    /// Until all of these keys have been noted as used after `after`.
    fn await_noted(client: &Client, keys: &[Value], after: &Value) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_later = |key: &Value| match last_used(client, key).as_str() {
            Some(at) => *at > *after.as_str().unwrap(),
            None => false,
        };
        while !keys.iter().all(is_later) {
            assert!(Instant::now() < deadline, "not noted");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn a_use_is_noted_soon_and_a_refusal_is_not(server: TestServer) {
        let ada = server.user("ada@example.com");
        let used = ada.create_key();
        let refused = ada.create_key_with(&json!({"ip_allowlist": ["192.0.2.1"]}));
        for _ in 0..2 {
            server.advance(Duration::from_secs(1));
            let before = serde_json::to_value(server.clock.now()).unwrap();
            server
                .caller(&refused)
                .get("/protected")
                .assert_problem(403, "ip_not_allowed");
            assert_eq!(server.caller(&used).get("/protected").status, 200);
            await_noted(&ada, std::slice::from_ref(&used), &before);
            let after = serde_json::to_value(server.clock.now()).unwrap();
            assert!(last_used(&ada, &used).as_str() <= after.as_str());
        }
        assert_eq!(last_used(&ada, &refused), Value::Null);
    }

    fn a_stop_in_the_middle_of_noting_loses_nothing(mut server: TestServer) {
        let ada = server.user("ada@example.com");
        // More than are written at once.
        let keys: Vec<_> = (0..600).map(|_| ada.create_key()).collect();
        for key in &keys {
            assert_eq!(server.caller(key).get("/protected").status, 200);
        }
        server.stop();
        let forgotten = "SELECT prefix AS text FROM api_keys WHERE last_used_at IS NULL";
        assert_eq!(server.query(forgotten), Vec::<String>::new());
    }
}

#[test]
fn a_use_is_noted_when_the_program_has_stopped_in_order() {
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
    let noted = ada.get(&path_of(&key)).json()["last_used_at"].clone();
    assert!(noted.as_str().unwrap() > key["created_at"].as_str().unwrap());
}
