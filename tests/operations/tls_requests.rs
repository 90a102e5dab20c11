//! TLS of the service: response headers, traces, and shutdown during a handshake.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use crate::{
    otlp::Collector,
    raw::{assert_last_problem, connect},
    support::{Program, program::QUICK},
    tls::{Files, LIVE, send_request},
};

const HSTS: &str = "\r\nstrict-transport-security: max-age=31536000\r\n";

#[test]
fn every_tls_response_has_strict_transport_security() {
    let Some(files) = Files::make() else { return };
    let program = files.start(&[]);
    let mut stream = files.connect(&program);
    let mut responses = vec![
        send_request(&mut stream, LIVE),
        send_request(&mut stream, &LIVE.replace("live", "nowhere")),
        send_request(&mut stream, &LIVE.replace("health/live", "docs/")),
    ];
    stream.write_all(b"NO HTTP\r\n\r\n").unwrap();
    let mut rejected = String::new();
    let _ = stream.read_to_string(&mut rejected);
    assert_last_problem(&rejected, 400, "invalid_request");
    responses.push(rejected);
    for response in responses {
        assert!(response.to_lowercase().contains(HSTS), "{response}");
    }
}

#[test]
fn plain_http_response_has_no_strict_transport_security() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let reply = program.client().get("/health/live");
    assert_eq!(reply.header("strict-transport-security"), None);
    let mut stream = connect(&program);
    stream.write_all(b"NO HTTP\r\n\r\n").unwrap();
    let rejected = crate::raw::read_to_end(&mut stream);
    assert!(!rejected.to_lowercase().contains("strict-transport"));
}

#[test]
fn span_of_a_tls_request_has_scheme_https() {
    let Some(files) = Files::make() else { return };
    let collector = Collector::start();
    let program = files.start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]);
    send_request(&mut files.connect(&program), LIVE);
    let span = collector.await_span(|span| span.name == "GET /health/live");
    assert_eq!(span.attributes["url.scheme"], "https");
}

#[test]
fn missing_handshake_does_not_block_a_shutdown() {
    let Some(files) = Files::make() else { return };
    let mut program = files.start(&[("SHUTDOWN_SECONDS", "60"), ("HEAD_SECONDS", "60")]);
    let _silent = connect(&program);
    // A later connection is served, so the silent one has been accepted.
    assert!(send_request(&mut files.connect(&program), LIVE).starts_with("HTTP/1.1 200"));
    let signaled = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(signaled.elapsed() < Duration::from_secs(30));
    assert_eq!(program.said("closing connections that are still open"), 0);
}
