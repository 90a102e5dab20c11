//! Requests with a late body: they are rejected if their session or role ends while the body is awaited.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;

use crate::{
    on_both_databases,
    support::{Client, PASSWORD, TestServer, path_of},
};

/// Request that the server has started to process, and whose body it awaits.
struct PendingRequest {
    stream: TcpStream,
    body: String,
}

impl PendingRequest {
    fn begin(client: &Client, method: &str, path: &str, body: &serde_json::Value) -> Self {
        let body = body.to_string();
        let header_section = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\
             connection: close\r\n\r\n",
            client.header("authorization"),
            body.len(),
        );
        let address = client.base().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(header_section.as_bytes()).unwrap();
        // The server has checked the token before it asks for the body.
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, body }
    }

    fn finish(mut self) -> String {
        self.stream.write_all(self.body.as_bytes()).unwrap();
        let mut reply = String::new();
        self.stream.read_to_string(&mut reply).unwrap();
        reply
    }
}

on_both_databases! {
    request_with_a_late_body_is_rejected_after_its_session_has_ended,
    request_with_a_late_body_is_rejected_after_its_role_has_changed,
}

fn request_with_a_late_body_is_rejected_after_its_session_has_ended(server: TestServer) {
    let root = server.admin("root@example.com");
    let thief = server.user("thief@example.com");
    let key = root.create_key();
    let pending = [
        PendingRequest::begin(
            &root,
            "PATCH",
            &format!("/admin/users/{}", thief.id()),
            &json!({"role": "admin"}),
        ),
        PendingRequest::begin(
            &root,
            "PUT",
            "/admin/roles/mine",
            &json!({"permissions": []}),
        ),
        PendingRequest::begin(&root, "POST", "/api-keys", &json!({"name": "stolen"})),
        PendingRequest::begin(&root, "PATCH", &path_of(&key), &json!({"name": "stolen"})),
        PendingRequest::begin(
            &root,
            "POST",
            &format!("{}/rotate", path_of(&key)),
            &json!({}),
        ),
    ];
    let change = json!({"current_password": PASSWORD, "new_password": "the second password"});
    assert_eq!(root.post_json("/auth/password", &change).status, 204);
    for request in pending {
        let reply = request.finish();
        assert!(
            reply.starts_with("HTTP/1.1 401") && reply.contains("invalid_token"),
            "{reply}"
        );
    }
    let root = server
        .anonymous()
        .log_in("root@example.com", "the second password");
    assert_eq!(root.get("/api-keys").json()[0]["name"], json!(null));
    assert_eq!(root.get("/api-keys").json().as_array().unwrap().len(), 1);
    assert_eq!(root.get("/admin/roles").json().as_array().unwrap().len(), 2);
    assert_eq!(thief.get("/auth/me").json()["role"], "member");
}

fn request_with_a_late_body_is_rejected_after_its_role_has_changed(server: TestServer) {
    let root = server.admin("root@example.com");
    let second = server.admin("second@example.com");
    let pending = [
        PendingRequest::begin(
            &second,
            "POST",
            "/api-keys",
            &json!({"scopes": ["keys:verify"]}),
        ),
        PendingRequest::begin(
            &second,
            "PATCH",
            &format!("/admin/users/{}", root.id()),
            &json!({"active": false}),
        ),
        PendingRequest::begin(
            &second,
            "PUT",
            "/admin/roles/mine",
            &json!({"permissions": []}),
        ),
    ];
    assert_eq!(
        root.change_user(&second.id(), &json!({"role": "member"}))
            .status,
        200
    );
    for request in pending {
        let reply = request.finish();
        assert!(
            reply.starts_with("HTTP/1.1 403") && reply.contains("permission_denied"),
            "{reply}"
        );
    }
    assert_eq!(second.get("/api-keys").json(), json!([]));
    assert_eq!(root.get("/auth/me").status, 200);
}
