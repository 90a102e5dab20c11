//! What nginx answers itself, and what it writes.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::Topology;
use crate::{
    keys::text_of,
    support::{Client, Reply},
};

const SAFE: [&str; 5] = [
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-resource-policy",
    "content-security-policy",
];

/// Asserts that browsers are told the same by this as by the service.
#[track_caller]
fn assert_safe(reply: &Reply, of_the_service: &Reply) {
    for name in SAFE {
        assert!(of_the_service.header(name).is_some(), "{name}");
        assert_eq!(reply.header(name), of_the_service.header(name), "{name}");
    }
}

#[test]
fn what_nginx_answers_itself_is_like_the_services_own() {
    let Some(mut topology) = Topology::start() else {
        return;
    };
    let client = topology.nginx.client();
    let live = client.get("/health/live");
    assert_eq!(live.status, 200);
    let large = client.send("POST", "/auth/login", vec![b' '; 200 * 1024]);
    large.assert_problem(413, "payload_too_large");
    let long_head = client.with("x-long", &"y".repeat(20_000)).get("/protected");
    long_head.assert_problem(431, "headers_too_large");
    let long_path = client.get(&format!("/{}", "y".repeat(20_000)));
    long_path.assert_problem(431, "headers_too_large");
    let inner = client.get("/_problem");
    inner.assert_problem(404, "not_found");
    for instance in &mut topology.instances {
        instance.program = None;
    }
    let away = client.get("/protected");
    away.assert_problem(503, "unavailable");
    for reply in [&large, &long_head, &long_path, &inner, &away] {
        assert_safe(reply, &live);
    }
    for (request, status) in [
        ("SOMETHING ELSE\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/3.1\r\nhost: x\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
            400,
        ),
        ("TRACE / HTTP/1.1\r\nhost: x\r\n\r\n", 405),
    ] {
        let mut stream = TcpStream::connect(topology.nginx.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let problem = answer.split("\r\n\r\n").nth(1).unwrap();
        let problem: serde_json::Value = serde_json::from_str(problem).expect(&answer);
        assert_eq!(problem["status"], status, "{answer}");
        assert!(
            answer.contains("\nX-Content-Type-Options: nosniff\r"),
            "{answer}"
        );
    }
}

#[test]
fn a_requests_id_is_the_callers_wherever_it_is_answered() {
    let Some(mut topology) = Topology::start() else {
        return;
    };
    let client = topology.nginx.client();
    let id_of = |given: &str| {
        let reply = client.with("x-request-id", given).get("/protected");
        reply.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id_of("mine-1"), "mine-1");
    let longest = "~".repeat(128);
    assert_eq!(id_of(&longest), longest);
    let strange = ["two words".to_owned(), "~".repeat(129), "\"}".to_owned()];
    for strange in &strange {
        assert_ne!(&id_of(strange), strange);
    }
    for instance in &mut topology.instances {
        instance.program = None;
    }
    assert_eq!(id_of("mine-2"), "mine-2");
    for strange in &strange {
        assert_ne!(&id_of(strange), strange);
    }
    client
        .with("x-request-id", "\"}\\")
        .get("/protected")
        .assert_problem(503, "unavailable");
    let access = topology.nginx.read("access");
    assert!(
        access.contains(" id=mine-1 ") && access.contains(" id=mine-2 "),
        "{access}"
    );
}

#[test]
fn no_secret_is_in_what_nginx_writes_wherever_it_stands_and_whatever_fails() {
    let Some(mut topology) = Topology::start() else {
        return;
    };
    let client = topology.nginx.client();
    let key = client.sign_up("ada@example.com").create_key();
    let text = text_of(&key);
    let send_all = |client: &Client| {
        client.with_key(text).get("/protected");
        client.get(&format!("/protected?api_key={text}"));
        client.get(&format!("/protected/{text}"));
        client.get(&format!("/{text}"));
        client.send("POST", &format!("/verify?{text}"), text);
        client.send("POST", &format!("/auth/{text}"), vec![b' '; 200 * 1024]);
        client
            .with("referer", &format!("http://x/?{text}"))
            .get("/");
    };
    send_all(&client);
    for instance in &mut topology.instances {
        instance.program = None;
        send_all(&client);
    }
    let access = topology.nginx.read("access");
    for line in [
        "GET /protected 200 ",
        "POST /verify 503 ",
        "POST /auth 413 ",
        "GET - 404 ",
    ] {
        assert!(access.contains(line), "no {line}: {access}");
    }
    for file in ["access", "errors", "log"] {
        let written = topology.nginx.read(file);
        assert!(!written.contains("sk_live_"), "{file}: {written}");
    }
}
