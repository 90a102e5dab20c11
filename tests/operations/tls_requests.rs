//! TLS of its own: what requests and browsers learn of it, and that it holds up no stop.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use crate::{
    otlp::Collector,
    raw::{assert_last_problem, connect},
    support::{Program, program::QUICK},
    tls::{Files, LIVE, ask},
};

const HSTS: &str = "\r\nstrict-transport-security: max-age=31536000\r\n";

#[test]
fn every_answer_tells_browsers_to_come_back_over_tls_only() {
    let Some(files) = Files::make() else { return };
    let program = files.start(&[]);
    let mut stream = files.connect(&program);
    let mut told = vec![
        ask(&mut stream, LIVE),
        ask(&mut stream, &LIVE.replace("live", "nowhere")),
        ask(&mut stream, &LIVE.replace("health/live", "docs/")),
    ];
    stream.write_all(b"NO HTTP\r\n\r\n").unwrap();
    let mut refused = String::new();
    let _ = stream.read_to_string(&mut refused);
    assert_last_problem(&refused, 400, "invalid_request");
    told.push(refused);
    for answer in told {
        assert!(answer.to_lowercase().contains(HSTS), "{answer}");
    }
}

#[test]
fn nobody_is_told_so_who_does_not_come_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let reply = program.client().get("/health/live");
    assert_eq!(reply.header("strict-transport-security"), None);
    let mut stream = connect(&program);
    stream.write_all(b"NO HTTP\r\n\r\n").unwrap();
    let refused = crate::raw::read_to_end(&mut stream);
    assert!(!refused.to_lowercase().contains("strict-transport"));
}

#[test]
fn traces_say_https() {
    let Some(files) = Files::make() else { return };
    let collector = Collector::start();
    let program = files.start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]);
    ask(&mut files.connect(&program), LIVE);
    let span = collector.await_span(|span| span.name == "GET /health/live");
    assert_eq!(span.attributes["url.scheme"], "https");
}

#[test]
fn a_handshake_that_does_not_come_does_not_hold_up_a_stop() {
    let Some(files) = Files::make() else { return };
    let mut program = files.start(&[("SHUTDOWN_SECONDS", "60"), ("HEAD_SECONDS", "60")]);
    let _silent = connect(&program);
    // Who came later is served, so it has been let in.
    assert!(ask(&mut files.connect(&program), LIVE).starts_with("HTTP/1.1 200"));
    let told = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(30));
    assert_eq!(program.said("no time left"), 0);
}
