//! `latchkey health`, the health check for containers, which have no other HTTP client.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Program,
    program::{QUICK, assert_fails_with_one_line, run},
};

fn port_of(program: &Program) -> String {
    program.base.rsplit(':').next().unwrap().to_owned()
}

#[test]
fn health_command_succeeds_for_a_ready_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = QUICK.to_vec();
    settings.push(("HOST", "0.0.0.0"));
    let program = Program::start(folder.path(), &settings);
    let port = port_of(&program);
    let url = format!("http://localhost:{port}");
    for (arguments, settings) in [
        (vec!["health"], vec![("HOST", "0.0.0.0"), ("PORT", &*port)]),
        (vec!["health"], vec![("PORT", &*port)]),
        (vec!["health", "--live"], vec![("PORT", &*port)]),
        (vec!["health", "--port", &port], vec![]),
        (vec!["health", "--url", &url], vec![]),
        // Other settings of the server are ignored.
        (
            vec!["health"],
            vec![("PORT", &*port), ("JWT_SECRET", "x"), ("LOG", "nonsense")],
        ),
    ] {
        let output = run(&arguments, &settings);
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.lines().count(), 1, "{printed}");
        assert!(printed.ends_with(" returned 200\n"), "{printed}");
    }
    program.stop();
    let output = run(&["health"], &[("PORT", &port)]);
    assert_fails_with_one_line(&output, 1, &[&port, "did not respond"]);
}

/// Starts a server that accepts one connection, reads the request and calls `respond`. Returns its port, and the
/// request.
fn respond_once(
    respond: impl FnOnce(TcpStream) + Send + 'static,
) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).unwrap();
        respond(stream);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    });
    (port, served)
}

#[test]
fn health_command_fails_for_any_response_but_200() {
    for (response, message) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
        ("HTTP/1.1 307 Temporary Redirect\r\n\r\n", "307"),
        ("HTTP/1.1 200", "did not respond"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "did not respond"),
        ("", "did not respond"),
    ] {
        let (port, served) = respond_once(move |mut stream| {
            stream.write_all(response.as_bytes()).unwrap();
        });
        let output = run(&["health"], &[("PORT", &port)]);
        assert_fails_with_one_line(&output, 1, &[message]);
        let request = served.join().unwrap();
        assert!(request.starts_with("GET /health/ready HTTP/1.1\r\n"));
        assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")));
    }
}

#[test]
fn health_command_fails_when_the_response_times_out() {
    let hangs = |mut stream: TcpStream| {
        // Returns when the client closes the connection.
        let _ = stream.read(&mut [0; 1]);
    };
    let drips = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    };
    for port in [respond_once(hangs).0, respond_once(drips).0] {
        let began = Instant::now();
        let arguments = ["health", "--timeout-seconds", "1"];
        assert_fails_with_one_line(
            &run(&arguments, &[("PORT", &port)]),
            1,
            &[&port, "timed out"],
        );
        assert!(began.elapsed() < Duration::from_secs(25));
    }
}

#[test]
fn health_command_rejects_a_bad_setting_with_one_line() {
    assert_fails_with_one_line(
        &run(&["health", "--url", "x"], &[]),
        2,
        &["--url", "http://"],
    );
    assert_fails_with_one_line(&run(&["health"], &[("PORT", "0")]), 2, &["PORT", "--url"]);
    assert_fails_with_one_line(&run(&["health"], &[("PORT", "x")]), 2, &["PORT"]);
    let too_long = ["health", "--timeout-seconds", "301"];
    assert_fails_with_one_line(&run(&too_long, &[]), 2, &["--timeout-seconds", "300"]);
}
