//! Decision about a key: it is rejected for the first reason in the contract's order.

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

/// Returns a key with one defect for each bit set in `defects`. The bits are in the contract's order of reasons.
fn key(defects: u32, now: UtcTime) -> KeyFacts {
    let has = |bit: u32| defects & (1 << bit) != 0;
    let network = if has(4) { "192.0.2.0/24" } else { "10.0.0.0/8" };
    let scope = if has(5) { "orders:write" } else { "orders:*" };
    let id = serde_json::from_value(json!("01890a5d-ac96-774b-bcce-b302099a8057")).unwrap();
    KeyFacts {
        id,
        lineage_id: id,
        limits: Default::default(),
        user_id: serde_json::from_value(json!("01890a5d-ac96-774b-bcce-b302099a8058")).unwrap(),
        name: None,
        environment: Environment::Live,
        enabled: !has(0),
        user_active: !has(1),
        expires_at: Some(now.plus_seconds(if has(2) { 0 } else { 1 })),
        revoked_at: has(3).then_some(now),
        ip_allowlist: Networks::new(&[Network::parse(network).unwrap()]),
        scopes: Scopes::new(&scopes(&[scope])),
    }
}

#[test]
fn key_with_several_defects_is_rejected_for_the_first_reason() {
    let now = Clock::default().now();
    let required = scopes(&["orders:read"]);
    let request = Request {
        now,
        client_ip: Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))),
        scopes: &required,
    };
    for defects in 0..64_u32 {
        let expected = match defects.trailing_zeros() {
            0 | 1 => Err("disabled"),
            2 => Err("expired"),
            3 => Err("revoked"),
            4 => Err("ip_not_allowed"),
            5 => Err("insufficient_scope"),
            _ => Ok(()),
        };
        let decision = decide(Some(&key(defects, now)), &request);
        assert_eq!(
            decision.as_ref().map_err(Rejection::code).copied(),
            expected,
            "{defects:06b}"
        );
    }
    assert_eq!(decide(None, &request), Err(Rejection::NotFound));
}

#[test]
fn missing_scopes_are_all_named_in_the_order_of_the_request() {
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
fn unknown_client_address_is_in_no_allowlist() {
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
