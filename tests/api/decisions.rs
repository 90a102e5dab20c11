//! The decision about a key: the first reason in the contract's order.

use std::net::{IpAddr, Ipv4Addr};

use latchkey::{
    domain::{
        api_key::Environment,
        clock::{Clock, UtcTime},
        network::{Network, Networks},
        scope::{Scope, Scopes},
    },
    models::key_facts::KeyFacts,
    verification::engine::{Rejection, Request, decide},
};
use serde_json::json;

fn scopes(list: &[&str]) -> Vec<Scope> {
    list.iter()
        .map(|scope| Scope::parse(scope).unwrap())
        .collect()
}

/// A key with everything wrong that a bit of `wrong` says, in the contract's order.
fn key(wrong: u32, now: UtcTime) -> KeyFacts {
    let is = |bit: u32| wrong & (1 << bit) != 0;
    let network = if is(4) { "192.0.2.0/24" } else { "10.0.0.0/8" };
    let scope = if is(5) { "orders:write" } else { "orders:*" };
    let id = serde_json::from_value(json!("01890a5d-ac96-774b-bcce-b302099a8057")).unwrap();
    KeyFacts {
        id,
        lineage_id: id,
        limits: Default::default(),
        user_id: serde_json::from_value(json!("01890a5d-ac96-774b-bcce-b302099a8058")).unwrap(),
        name: None,
        environment: Environment::Live,
        enabled: !is(0),
        user_active: !is(1),
        expires_at: Some(now.plus_seconds(if is(2) { 0 } else { 1 })),
        revoked_at: is(3).then_some(now),
        ip_allowlist: Networks::new(&[Network::parse(network).unwrap()]),
        scopes: Scopes::new(&scopes(&[scope])),
    }
}

#[test]
fn the_first_reason_counts_whatever_else_is_wrong() {
    let now = Clock::default().now();
    let required = scopes(&["orders:read"]);
    let request = Request {
        now,
        client_ip: Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))),
        scopes: &required,
    };
    for wrong in 0..64_u32 {
        let expected = match wrong.trailing_zeros() {
            0 | 1 => Err("disabled"),
            2 => Err("expired"),
            3 => Err("revoked"),
            4 => Err("ip_not_allowed"),
            5 => Err("insufficient_scope"),
            _ => Ok(()),
        };
        let decision = decide(Some(&key(wrong, now)), &request);
        assert_eq!(
            decision.as_ref().map_err(Rejection::code).copied(),
            expected,
            "{wrong:06b}"
        );
    }
    assert_eq!(decide(None, &request), Err(Rejection::NotFound));
}

#[test]
fn all_missing_scopes_are_named_in_their_order() {
    let now = Clock::default().now();
    let required = scopes(&["orders:read", "keys:verify", "a", "orders:write", "b:c"]);
    let request = Request {
        now,
        client_ip: Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))),
        scopes: &required,
    };
    let missing = ["keys:verify", "a", "b:c"].map(str::to_owned).to_vec();
    assert_eq!(
        decide(Some(&key(0, now)), &request),
        Err(Rejection::InsufficientScope(missing))
    );
}

#[test]
fn an_unknown_address_is_in_no_allowlist() {
    let now = Clock::default().now();
    let mut request = Request {
        now,
        client_ip: None,
        scopes: &[],
    };
    let mut stored = key(0, now);
    assert_eq!(
        decide(Some(&stored), &request),
        Err(Rejection::IpNotAllowed)
    );
    request.client_ip = Some("::ffff:10.1.2.3".parse().unwrap());
    assert_eq!(decide(Some(&stored), &request), Ok(()));
    stored.ip_allowlist = Networks::default();
    request.client_ip = None;
    assert_eq!(decide(Some(&stored), &request), Ok(()));
}
