//! Request ids, health endpoints, and malformed HTTP requests.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use crate::{on_both_databases, support::TestServer};

/// Sends raw bytes and returns everything received until the connection closes.
pub fn raw(server: &TestServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // The server may respond and close the connection before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

on_both_databases! {
    valid_request_id_is_returned_unchanged,
    missing_or_invalid_request_id_is_replaced,
    health_endpoints_return_ok,
    malformed_http_is_rejected_and_the_server_keeps_serving,
}

fn valid_request_id_is_returned_unchanged(server: TestServer) {
    for id in ["1", "a-b_c.d:e/f", &"x".repeat(128)] {
        let client = server.anonymous().with("x-request-id", id);
        assert_eq!(client.get("/health/live").header("x-request-id"), Some(id));
        client.get("/nothing").assert_problem(404, "not_found");
    }
}

fn missing_or_invalid_request_id_is_replaced(server: TestServer) {
    let generated = server
        .anonymous()
        .get("/health/live")
        .header("x-request-id")
        .unwrap()
        .to_owned();
    assert_eq!(generated.len(), 36);
    for id in ["", "two words", "tab\there", &"x".repeat(129)] {
        let client = server.anonymous().with("x-request-id", id);
        let reply = client.get("/health/live");
        let generated = reply.header("x-request-id").unwrap();
        assert!(generated != id && generated.len() == 36, "{generated}");
    }
}

fn health_endpoints_return_ok(server: TestServer) {
    for path in ["/health/live", "/health/ready"] {
        let reply = server.anonymous().get(path);
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (200, r#"{"status":"ok"}"#)
        );
    }
}

fn malformed_http_is_rejected_and_the_server_keeps_serving(server: TestServer) {
    for request in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /auth/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\nzz\r\n",
    ] {
        let reply = raw(&server, request);
        assert!(
            reply.is_empty() || reply.starts_with("HTTP/1.1 4"),
            "{request:?}: {reply}"
        );
    }
    assert_eq!(server.anonymous().get("/health/ready").status, 200);
}
