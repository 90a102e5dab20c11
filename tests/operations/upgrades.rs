//! Upgrade requests: the service ignores the upgrade (RFC 9110 section 7.8) and sends the usual response.

use std::{
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use crate::{
    keys::full_key,
    raw::{address, connect, read_to_end},
    support::{Program, program::QUICK, skip},
};

const JSON: &str = "content-type: application/json\r\n";

/// Sends a request twice in one write, the second time with `connection: close`, and returns all responses.
fn twice(program: &Program, request: &str, body: &str) -> String {
    let mut stream = connect(program);
    let last = format!("{request}connection: close\r\n\r\n{body}");
    let all = format!("{request}\r\n{body}{last}");
    stream.write_all(all.as_bytes()).unwrap();
    read_to_end(&mut stream)
}

#[test]
fn upgrade_is_ignored_and_the_connection_persists() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    for upgrade in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "Connection: keep-alive,UPGRADE\r\nUpgrade: websocket\r\n",
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
    ] {
        let get = format!("GET /health/live HTTP/1.1\r\nhost: x\r\n{upgrade}");
        let post =
            format!("POST /auth/login HTTP/1.1\r\nhost: x\r\n{JSON}{upgrade}content-length: 2\r\n");
        for (request, body, status) in [(get, "", "HTTP/1.1 200"), (post, "{}", "HTTP/1.1 422")] {
            let replies = twice(&program, &request, body).to_lowercase();
            assert_eq!(
                replies.matches(&status.to_lowercase()).count(),
                2,
                "{replies}"
            );
            assert!(!replies.contains("upgrade"), "{replies}");
            assert_eq!(replies.matches("connection: close").count(), 1, "{replies}");
        }
    }
}

#[test]
fn connect_is_rejected_and_later_requests_are_not_executed() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    for (target, status) in [
        ("example.com:443", "HTTP/1.1 404"),
        ("/health/live", "HTTP/1.1 405"),
        ("/forward-auth", "HTTP/1.1 405"),
    ] {
        let mut stream = connect(&program);
        let following = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
        write!(
            stream,
            "CONNECT {target} HTTP/1.1\r\nhost: x\r\n\r\n{following}"
        )
        .unwrap();
        let reply = read_to_end(&mut stream);
        assert!(reply.starts_with(status), "{target}: {reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{target}: {reply}");
    }
}

/// Starts a relay that forwards connections and counts them. Returns its base URL and the count.
fn counting_relay(target: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (count, target) = (Arc::new(AtomicUsize::new(0)), target.to_owned());
    let counted = count.clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            counted.fetch_add(1, Ordering::Relaxed);
            let server = TcpStream::connect(&target).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    (base, count)
}

#[test]
fn jdk_http_client_verifies_a_thousand_times_over_few_connections() {
    const THREADS: usize = 8;
    if Command::new("java").arg("--version").output().is_err() {
        return skip("the JDK's HTTP client: the program java is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let admin = program.client().sign_up("ada@example.com");
    let granted = Program::command(
        folder.path(),
        &["admin", "grant", "ada@example.com"],
        &QUICK,
    );
    assert!({ granted }.status().unwrap().success());
    let key = admin.create_key_with(&json!({"scopes": ["keys:verify"]}));
    let (base, connections) = counting_relay(address(&program));
    let output = Command::new("java")
        .arg("tests/operations/jdk/VerifyInARow.java")
        .args([&base, full_key(&key), "1000", &THREADS.to_string()])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed.trim(), "failures: 0", "{errors}");
    // One per thread. The client may open another one while a connection is being returned to its pool.
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..=4 * THREADS).contains(&connections), "{connections}");
}
