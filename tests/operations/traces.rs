//! Traces that the service exports to an OpenTelemetry collector.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value;

use super::otlp::{Collector, Span};
use crate::support::{PASSWORD, Program, program::QUICK};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// Setting that exports spans after 50 ms.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

fn traceparent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

fn start(folder: &tempfile::TempDir, settings: &[(&str, &str)]) -> Program {
    Program::start(folder.path(), &[&QUICK[..], settings].concat())
}

fn is_server(span: &Span, name: &str) -> bool {
    span.name == name && span.kind == SpanKind::Server
}

#[test]
fn request_span_and_its_children_belong_to_the_trace_of_the_caller() {
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-tenant=hunter22,authorization=Bearer%20hunter23",
        ),
        ("OTEL_SERVICE_NAME", "keys"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        ("LOG_FORMAT", "json"),
        ("LOG", "debug"),
        SOON,
    ];
    let program = start(&folder, &settings);
    let ada = program.client().sign_up("ada@example.com");
    let key = ada.create_key();
    let traced = program
        .client()
        .with("traceparent", &traceparent())
        .with("x-request-id", "a-request");
    let caller = traced.with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected?a-query").status, 200);

    let span = collector.await_span(|span| is_server(span, "GET /protected"));
    assert_eq!(
        (span.trace_id.as_str(), span.parent_id.as_str()),
        (TRACE, CALLER)
    );
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/protected"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
    ] {
        assert_eq!(span.attributes[name], value, "{span:?}");
    }
    assert_eq!(span.resource["service.name"], "keys");
    assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(span.resource["deployment.environment.name"], "test");
    assert!(!span.is_error);

    // The key was looked up in the database, within this request.
    let read = collector.await_span(|span| span.name == "database read" && span.trace_id == TRACE);
    assert_eq!(read.parent_id, span.id);
    assert_eq!(
        (read.kind, read.attributes["db.system.name"].as_str()),
        (SpanKind::Client, "sqlite")
    );

    let credentials = serde_json::json!({"email": "ada@example.com", "password": PASSWORD});
    let logged_in = traced.post_json("/auth/login", &credentials);
    assert_eq!(logged_in.status, 200);
    let login = collector.await_span(|span| is_server(span, "POST /auth/login"));
    collector.await_span(|span| span.name == "bcrypt" && span.parent_id == login.id);
    let signup = collector.await_span(|span| is_server(span, "POST /auth/signup"));
    collector.await_span(|span| span.name == "database write" && span.parent_id == signup.id);

    // Parts of a request that may contain a secret are not exported.
    traced.get("/no/such/path");
    let unmatched = collector.await_span(|span| is_server(span, "GET"));
    assert_eq!(unmatched.attributes["http.response.status_code"], "404");
    assert!(!unmatched.attributes.contains_key("http.route"));
    let spans = format!("{:?}", collector.spans());
    for secret in [
        "a-query", "no/such", "sk_live", PASSWORD, "ada@", "hunter22",
    ] {
        assert!(!spans.contains(secret), "{secret} in {spans}");
    }
    let header_sections = collector.header_sections();
    for headers in &header_sections {
        assert!(
            headers.starts_with("post /v1/traces http/1.1\r\n"),
            "{headers}"
        );
        assert!(
            headers.contains("content-type: application/x-protobuf"),
            "{headers}"
        );
        assert!(headers.contains("x-tenant: hunter22"), "{headers}");
        assert!(
            headers.contains("authorization: bearer hunter23"),
            "{headers}"
        );
    }

    let log = program.stop();
    assert!(!log.contains("hunter2"), "{log}");
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines
        .into_iter()
        .find(|line| line["message"] == "request" && line["route"] == "/protected");
    let line = line.expect("the line of the request");
    assert_eq!(
        (&line["request_id"], &line["trace_id"]),
        (&"a-request".into(), &TRACE.into())
    );
}

#[test]
fn invalid_traceparent_starts_a_new_trace_and_unsampled_one_is_not_exported() {
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        SOON,
    ];
    let program = start(&folder, &settings);
    let send = |traceparent: &str| {
        let client = program.client().with("traceparent", traceparent);
        assert_eq!(client.get("/health/live").status, 200);
    };
    let zero = "0".repeat(32);
    let bad = [
        "garbage",
        &format!("00-{zero}-{CALLER}-01"),
        &format!("00-{TRACE}-{}-01", &zero[..16]),
        &traceparent().to_uppercase(),
        &format!("ff-{TRACE}-{CALLER}-01"),
        &format!("00-{TRACE}-{CALLER}-01-more"),
    ];
    // The caller does not sample this trace.
    send(&format!("00-{}-{CALLER}-00", TRACE.replace('a', "b")));
    bad.iter().for_each(|bad| send(bad));
    let twice = program
        .client()
        .with("traceparent", &traceparent())
        .with("traceparent", &traceparent());
    assert_eq!(twice.get("/health/live").status, 200);
    send(&traceparent());
    collector.await_span(|span| span.trace_id == TRACE);
    let spans = collector.spans();
    assert_eq!(spans.len(), bad.len() + 2, "{spans:?}");
    let root_spans = spans
        .iter()
        .filter(|span| span.trace_id != TRACE && span.parent_id.is_empty());
    assert_eq!(root_spans.count(), bad.len() + 1, "{spans:?}");
    assert!(spans.iter().all(|span| span.trace_id.len() == 32));
}

#[test]
fn shutdown_exports_the_remaining_spans() {
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let later = ("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        later,
    ];
    let program = start(&folder, &settings);
    for _ in 0..100 {
        assert_eq!(program.client().get("/health/live").status, 200);
    }
    assert!(collector.spans().is_empty());
    program.stop();
    assert_eq!(collector.spans().len(), 100);
}

#[test]
fn sampler_ratio_limits_the_exported_traces() {
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.3"),
    ];
    let program = start(&folder, &settings);
    for _ in 0..400 {
        assert_eq!(program.client().get("/health/live").status, 200);
    }
    program.stop();
    let sampled = collector.spans().len();
    // The expected value plus or minus six standard deviations.
    assert!((65..=175).contains(&sampled), "{sampled}");
}

#[test]
fn unreachable_or_hanging_collector_delays_no_request_and_is_logged_once() {
    // Accepts connections and never responds.
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = format!("http://{}", hangs.local_addr().unwrap());
    let rejects = "http://127.0.0.1:1";
    for url in [rejects, &hangs] {
        let folder = tempfile::tempdir().unwrap();
        // Creates more spans than the queue holds.
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16"),
            SOON,
        ];
        let program = start(&folder, &settings);
        let client = program.client();
        let started = Instant::now();
        for _ in 0..500 {
            assert_eq!(client.get("/health/live").status, 200);
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}",
            started.elapsed()
        );
        program.await_line("does not accept traces");
        assert_eq!(program.said("does not accept traces"), 1);
        let signaled = Instant::now();
        program.stop();
        assert!(
            signaled.elapsed() < Duration::from_secs(10),
            "{:?}",
            signaled.elapsed()
        );
    }
}
