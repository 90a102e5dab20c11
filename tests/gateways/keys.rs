//! Access through a gateway with latchkey itself behind it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};

use crate::{
    gateway::{Gateway, Recipe},
    responses::headers,
    server::Server,
    support::{Client, Program, path_of, program::QUICK, skip},
};

behind_each_gateway! {
    request_without_a_valid_key_gets_401,
    valid_key_is_accepted_and_identified,
    key_without_scopes_ignores_identity_headers_of_the_client,
    key_with_a_missing_scope_gets_403,
    key_is_accepted_only_from_its_allowlist,
    revoked_key_is_rejected_on_the_next_request,
    rate_limited_key_gets_429_with_retry_after,
}

struct Guarded {
    gateway: Gateway,
    application: Server,
    latchkey: Program,
    _folder: tempfile::TempDir,
}

impl Guarded {
    fn by(recipe: &Recipe) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = [&QUICK[..], &[("TRUSTED_PROXIES", "127.0.0.1")]].concat();
        let latchkey = Program::start(folder.path(), &settings);
        let address = latchkey.base.trim_start_matches("http://").parse().unwrap();
        let application = Server::application();
        Self {
            gateway: recipe.start(address, application.address),
            application,
            latchkey,
            _folder: folder,
        }
    }

    /// Signs up the user Ada at latchkey.
    fn ada(&self) -> Client {
        self.latchkey.client().sign_up("ada@example.com")
    }

    /// Returns a client that uses this key through the gateway.
    fn caller(&self, key: &Value) -> Client {
        self.gateway.client().with_key(secret(key))
    }
}

fn secret(key: &Value) -> &str {
    key["api_key"].as_str().expect("a key")
}

fn request_without_a_valid_key_gets_401(recipe: &Recipe) {
    let guarded = Guarded::by(recipe);
    let client = guarded.gateway.client();
    for client in [
        client.clone(),
        client.with_key("sk_live_wrong"),
        client.with_token("sk"),
    ] {
        for path in ["/", "/orders"] {
            let reply = client.get(path);
            assert_eq!(reply.status, 401, "{reply:?}");
            let challenge = reply.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            assert_eq!(
                reply.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(reply.json()["status"], 401);
        }
    }
    assert_eq!(guarded.application.requests().len(), 0);
}

fn valid_key_is_accepted_and_identified(recipe: &Recipe) {
    let guarded = Guarded::by(recipe);
    let ada = guarded.ada();
    let key = ada.create_key_with(&json!({"scopes": ["invoices:read", "orders:*"]}));
    let client = guarded.gateway.client();
    for client in [
        client.with_key(secret(&key)),
        client.with_token(secret(&key)),
    ] {
        for path in ["/", "/orders/7"] {
            let headers = headers(&client.get(path));
            assert_eq!(headers["x-api-key-id"], json!([key["id"]]));
            assert_eq!(
                headers["x-api-key-scopes"],
                json!(["invoices:read orders:*"])
            );
            assert_eq!(headers["x-user-id"], json!([ada.id()]));
            assert!(!headers.to_string().contains(secret(&key)), "{headers}");
        }
    }
}

fn key_without_scopes_ignores_identity_headers_of_the_client(recipe: &Recipe) {
    let guarded = Guarded::by(recipe);
    let ada = guarded.ada();
    let key = ada.create_key();
    let caller = guarded
        .caller(&key)
        .with("x-api-key-scopes", "*")
        .with("x-api-key-id", "another")
        .with("x-user-id", "somebody");
    let headers = headers(&caller.get("/"));
    assert_eq!(headers["x-api-key-id"], json!([key["id"]]));
    assert_eq!(headers["x-user-id"], json!([ada.id()]));
    let scopes = &headers["x-api-key-scopes"];
    assert!(*scopes == Value::Null || *scopes == json!([""]), "{scopes}");
}

fn key_with_a_missing_scope_gets_403(recipe: &Recipe) {
    let guarded = Guarded::by(recipe);
    let ada = guarded.ada();
    for (scopes, status) in [
        (json!([]), 403),
        (json!(["orders:write"]), 403),
        (json!(["orders:read"]), 200),
        (json!(["*"]), 200),
    ] {
        let caller = guarded.caller(&ada.create_key_with(&json!({"scopes": scopes})));
        for path in ["/orders", "/orders/7", "/orders?scope=&original="] {
            assert_eq!(caller.get(path).status, status, "{path} with {scopes}");
        }
        assert_eq!(caller.get("/?scope=admin&original=").status, 200);
    }
}

fn key_is_accepted_only_from_its_allowlist(recipe: &Recipe) {
    let guarded = Guarded::by(recipe);
    let ada = guarded.ada();
    let key_for = |network| ada.create_key_with(&json!({"ip_allowlist": [network]}));
    let (here, there) = (key_for("127.0.0.1"), key_for("127.0.0.2"));
    assert_eq!(guarded.caller(&here).get("/").status, 200);
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let value = match name {
            "forwarded" => "for=127.0.0.2",
            _ => "127.0.0.2",
        };
        let forger = guarded.caller(&there).with(name, value);
        assert_eq!(forger.get("/").status, 403, "{name}");
    }
    // The allowlist applies to the client's address, not to the gateway's, which the first client shares.
    let from_there = |key| status_from("127.0.0.2:0", guarded.gateway.address(), secret(key));
    let Some(status) = from_there(&there) else {
        return skip("networks: this machine has only one address");
    };
    assert_eq!(status, "200");
    assert_eq!(from_there(&here).as_deref(), Some("403"));
    assert_eq!(guarded.application.requests().len(), 2);
}

/// Returns the status of a request from this address, or `None` if the machine does not have the address.
fn status_from(own: &str, gateway: SocketAddr, key: &str) -> Option<String> {
    let own: SocketAddr = own.parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&own.into()).ok()?;
    socket.connect(&gateway.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let limit = Some(std::time::Duration::from_secs(30));
    stream.set_read_timeout(limit).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {gateway}\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.split(' ').nth(1).map(str::to_owned)
}

fn revoked_key_is_rejected_on_the_next_request(recipe: &Recipe) {
    let guarded = Guarded::by(recipe);
    let ada = guarded.ada();
    let key = ada.create_key();
    let caller = guarded.caller(&key);
    assert_eq!(caller.get("/").status, 200);
    assert_eq!(ada.delete(&path_of(&key)).status, 200);
    assert_eq!(caller.get("/").status, 401);
    assert_eq!(guarded.application.requests().len(), 1);
}

fn rate_limited_key_gets_429_with_retry_after(recipe: &Recipe) {
    let guarded = Guarded::by(recipe);
    let limits = json!({"rate_limit": {"limit": 2, "window_seconds": 86_400}});
    let caller = guarded.caller(&guarded.ada().create_key_with(&limits));
    for _ in 0..2 {
        assert_eq!(caller.get("/").status, 200);
    }
    let reply = caller.get("/");
    assert_eq!(reply.status, 429, "{reply:?}");
    assert_eq!(reply.json()["status"], 429);
    let header = |name| {
        reply
            .header(name)
            .unwrap_or_else(|| panic!("no {name}: {reply:?}"))
    };
    assert_eq!(header("ratelimit-policy"), "\"key\";q=2;w=86400");
    let wait = header("retry-after");
    assert_eq!(header("ratelimit"), format!("\"key\";r=0;t={wait}"));
    assert_eq!(guarded.application.requests().len(), 2);
}
