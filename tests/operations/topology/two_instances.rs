//! Two instances behind nginx: keys, rate limits and client addresses.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::Topology;
use crate::{
    keys::full_key,
    support::{path_of, skip},
};

#[test]
fn key_is_accepted_by_both_instances_and_rejected_once_revoked() {
    let Some(topology) = Topology::start() else {
        return;
    };
    let ada = topology.nginx.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let callers = topology.callers(&key);
    for caller in &callers {
        for _ in 0..10 {
            assert_eq!(caller.get("/protected").status, 200);
        }
    }
    assert!(
        (0..2).all(|number| topology.passed_to(number) > 0),
        "{}",
        topology.nginx.read("access")
    );
    assert_eq!(ada.delete(&path_of(&key)).status, 200);
    for caller in &callers {
        for _ in 0..4 {
            caller
                .get("/protected")
                .assert_problem(401, "invalid_api_key");
        }
    }
}

#[test]
fn rate_limit_holds_for_both_instances_together() {
    let Some(topology) = Topology::start() else {
        return;
    };
    const LIMIT: usize = 40;
    let ada = topology.nginx.client().sign_up("ada@example.com");
    let key =
        ada.create_key_with(&json!({"rate_limit": {"limit": LIMIT, "window_seconds": 86400}}));
    let caller = topology.nginx.client().with_key(full_key(&key));
    let statuses: Vec<_> = (0..2 * LIMIT)
        .map(|_| caller.get("/protected").status)
        .collect();
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 429)),
        "{statuses:?}"
    );
    // Tokens that one instance has prefetched are not available to the other.
    assert!((LIMIT * 3 / 4..=LIMIT).contains(&admitted), "{admitted}");
}

#[test]
fn client_address_is_taken_from_the_connection_and_not_from_its_headers() {
    let Some(topology) = Topology::start() else {
        return;
    };
    let ada = topology.nginx.client().sign_up("ada@example.com");
    let Some(mut from_elsewhere) = connect_from([127, 0, 0, 5], topology.nginx.address()) else {
        skip("addresses: 127.0.0.5 is not an address of this machine");
        return;
    };
    let request = format!(
        "POST /api-keys HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {}\r\n\
         x-forwarded-for: 203.0.113.1\r\nforwarded: for=203.0.113.2\r\ncontent-length: 0\r\n\r\n",
        ada.header("authorization")
    );
    from_elsewhere.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    from_elsewhere.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 201"), "{response}");
    let events = ada.get("/audit-log?action=api_key.created").json();
    assert_eq!(events[0]["ip"], "127.0.0.5", "{events}");
    // For a request from the machine itself, the address is that of the machine.
    let signed_up = ada.get("/audit-log?action=user.signed_up").json();
    assert_eq!(signed_up[0]["ip"], "127.0.0.1", "{signed_up}");
}

fn connect_from(address: [u8; 4], to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).ok()?;
    socket.connect(&to.into()).unwrap();
    Some(socket.into())
}
