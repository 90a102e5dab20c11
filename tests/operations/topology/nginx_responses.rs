//! Responses that nginx generates itself, request ids, and the logs of nginx.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::Topology;
use crate::{
    keys::full_key,
    support::{Client, Reply},
};

const SECURITY_HEADERS: [&str; 5] = [
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-resource-policy",
    "content-security-policy",
];

/// Asserts that a response has the same security headers as one of the service.
#[track_caller]
fn assert_security_headers(reply: &Reply, expected: &Reply) {
    for name in SECURITY_HEADERS {
        assert!(expected.header(name).is_some(), "{name}");
        assert_eq!(reply.header(name), expected.header(name), "{name}");
    }
}

#[test]
fn nginx_error_responses_have_the_problem_form() {
    let Some(mut topology) = Topology::start() else {
        return;
    };
    let client = topology.nginx.client();
    let live = client.get("/health/live");
    assert_eq!(live.status, 200);
    let large = client.send("POST", "/auth/login", vec![b' '; 200 * 1024]);
    large.assert_problem(413, "payload_too_large");
    let long_headers = client.with("x-long", &"y".repeat(20_000)).get("/protected");
    long_headers.assert_problem(431, "headers_too_large");
    let long_path = client.get(&format!("/{}", "y".repeat(20_000)));
    long_path.assert_problem(431, "headers_too_large");
    let inner = client.get("/_problem");
    inner.assert_problem(404, "not_found");
    for instance in &mut topology.instances {
        instance.program = None;
    }
    let away = client.get("/protected");
    away.assert_problem(503, "unavailable");
    for reply in [&large, &long_headers, &long_path, &inner, &away] {
        assert_security_headers(reply, &live);
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
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{response}"
        );
        let problem = response.split("\r\n\r\n").nth(1).unwrap();
        let problem: serde_json::Value = serde_json::from_str(problem).expect(&response);
        assert_eq!(problem["status"], status, "{response}");
        assert!(
            response.contains("\nX-Content-Type-Options: nosniff\r"),
            "{response}"
        );
    }
}

#[test]
fn request_id_of_the_caller_is_kept_by_nginx_and_the_service() {
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
fn nginx_logs_contain_no_api_key() {
    let Some(mut topology) = Topology::start() else {
        return;
    };
    let client = topology.nginx.client();
    let key = client.sign_up("ada@example.com").create_key();
    let text = full_key(&key);
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
