//! Metrics of a service that has done work of every kind.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};

use super::exposition::Scrape;
use crate::support::{Client, PASSWORD, Program, Reply, path_of, postgres, program::QUICK, redis};

const SECRET: &str = "a-secret-for-tests-and-only-for-tests";

/// A running service with metrics.
pub struct Watched {
    pub program: Program,
    metrics: Client,
    _folder: tempfile::TempDir,
}

impl Watched {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let defaults = [("METRICS_ADDR", "127.0.0.1:0"), ("JWT_SECRET", SECRET)];
        let settings = [&QUICK[..], &defaults, settings].concat();
        let program = Program::start(folder.path(), &settings);
        let address = program.said_after("metrics on ");
        Self {
            program,
            metrics: Client::new(address.strip_suffix("/metrics").unwrap()),
            _folder: folder,
        }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.metrics.get(path)
    }

    pub fn client(&self) -> Client {
        self.program.client()
    }

    #[track_caller]
    pub fn scrape(&self) -> Scrape {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200, "{reply:?}");
        let kind = reply.header("content-type");
        assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
        Scrape::parse(&reply.body)
    }
}

/// Does work of every kind, and returns the texts that must not appear in the metrics.
pub fn work(client: &Client) -> Vec<String> {
    let ada = client.sign_up("ada@example.com");
    let limits = json!({
        "name": "a secret name",
        "rate_limit": {"limit": 1000, "window_seconds": 60},
        "quota": {"limit": 1000, "period": "day"},
        "scopes": ["orders:read"],
    });
    let text = |key: &Value| key["api_key"].as_str().unwrap().to_owned();
    let (limited, plain) = (ada.create_key_with(&limits), ada.create_key());
    for key in [&limited, &plain] {
        for _ in 0..5 {
            assert_eq!(client.with_key(&text(key)).get("/protected").status, 200);
        }
    }
    let short = json!({"rate_limit": {"limit": 1, "window_seconds": 3600}});
    let short = client.with_key(&text(&ada.create_key_with(&short)));
    assert_eq!(short.get("/protected").status, 200);
    short.get("/protected").assert_problem(429, "rate_limited");
    let unscoped = client
        .with_key(&text(&plain))
        .get("/forward-auth?scope=orders:read");
    unscoped.assert_problem(403, "insufficient_scope");
    assert_eq!(ada.delete(&path_of(&plain)).status, 200);
    client
        .with_key(&text(&plain))
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    client
        .with_key("sk_live_mistyped")
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    // A well-formed key with a valid checksum that does not exist.
    let unknown = client.with_key("sk_live_0000000000000000000000000000000000000000");
    unknown
        .get("/protected")
        .assert_problem(401, "invalid_api_key");
    ada.get(&path_of(&limited));
    client.get("/no/such/path?with=a-query");
    vec![
        text(&limited),
        text(&plain),
        PASSWORD.to_owned(),
        SECRET.to_owned(),
        ada.header("authorization"),
        "ada@example.com".to_owned(),
        "a secret name".to_owned(),
        limited["id"].as_str().unwrap().to_owned(),
        "sk_live_".to_owned(),
        "/no/such/path".to_owned(),
        "a-query".to_owned(),
        "orders:read".to_owned(),
    ]
}

fn assert_metrics_after_work(watched: &Watched) {
    let secrets = work(&watched.client());
    let text = watched.get("/metrics").body;
    for secret in secrets {
        assert!(!text.contains(&secret), "{secret} in {text}");
    }
    let scrape = watched.scrape();
    let checks = |outcome, source| {
        let labels = [("outcome", outcome), ("source", source)];
        scrape.sum("latchkey_verifications_total", &labels)
    };
    // Each key is looked up once and then cached, unless an eviction happened during the lookup.
    let valid = checks("valid", "cache") + checks("valid", "database");
    assert_eq!(valid, 11.0);
    assert!(
        checks("valid", "cache") >= 5.0,
        "{}",
        checks("valid", "cache")
    );
    assert_eq!(
        checks("rate_limited", "cache") + checks("rate_limited", "database"),
        1.0
    );
    assert_eq!(checks("revoked", "database"), 1.0);
    assert!(checks("not_found", "none") >= 1.0);
    let scoped = scrape.sum(
        "latchkey_verifications_total",
        &[("outcome", "insufficient_scope")],
    );
    assert_eq!(scoped, 1.0);
    assert_eq!(
        scrape.sum("latchkey_verifications_total", &[("outcome", "error")]),
        0.0
    );

    let requests = |labels: &[(&str, &str)]| {
        scrape.sum("latchkey_http_request_duration_seconds_count", labels)
    };
    let protected = [
        ("route", "/protected"),
        ("method", "GET"),
        ("status", "200"),
    ];
    assert_eq!(requests(&protected), 11.0);
    assert_eq!(
        requests(&[("route", "/api-keys/{id}"), ("method", "DELETE")]),
        1.0
    );
    assert_eq!(requests(&[("route", "unmatched"), ("status", "404")]), 1.0);
    let took = scrape.sum("latchkey_http_request_duration_seconds_sum", &protected);
    assert!(took > 0.0 && took < 60.0, "{took}");

    let known = [("cache", "known")];
    assert!(scrape.sum("latchkey_cache_entries", &known) >= 2.0);
    assert!(scrape.sum("latchkey_cache_bytes", &known) > 100.0);
    assert_eq!(
        scrape.sum("latchkey_cache_hits_total", &known),
        scrape.sum("latchkey_verifications_total", &[("source", "cache")])
            - checks("not_found", "cache")
    );
    let changed = [("cache", "known"), ("reason", "changed")];
    assert!(scrape.sum("latchkey_cache_evictions_total", &changed) >= 1.0);
    let lease = |name: &str| scrape.sum(&format!("latchkey_lease_{name}"), &[]);
    assert_eq!(lease("seconds"), 2.0);
    let sum = lease("age_seconds") + lease("remaining_seconds");
    assert!((sum - 2.0).abs() < 0.1, "{sum}");
    assert!(scrape.sum("latchkey_change_propagation_seconds_count", &[]) >= 1.0);
    assert_eq!(scrape.sum("latchkey_instances", &[]), 1.0);
    assert_eq!(scrape.sum("latchkey_database_pool_size", &[]), 10.0);
    assert!(scrape.sum("latchkey_database_connections", &[]) >= 1.0);
    assert!(scrape.sum("latchkey_quota_blocks_total", &[]) >= 1.0);
    assert_eq!(
        scrape.sum("latchkey_build_info", &[("version", "0.1.0")]),
        1.0
    );
    assert!(scrape.sum("process_resident_memory_bytes", &[]) > 1e6);
    assert!(scrape.sum("process_open_fds", &[]) > 5.0);
    assert!(scrape.sum("process_start_time_seconds", &[]) > 1.7e9);
}

#[test]
fn metrics_report_the_work_done_on_sqlite() {
    let watched = Watched::start(&[]);
    assert_metrics_after_work(&watched);
    assert!(
        watched.scrape().families["latchkey_redis_up"]
            .samples
            .is_empty()
    );
}

#[test]
fn metrics_report_the_work_done_on_postgres_and_redis() {
    let (Some(database), Some(redis)) = (postgres::fresh_database(), redis::empty()) else {
        return;
    };
    let watched = Watched::start(&[("DATABASE_URL", &database.url), ("REDIS_URL", &redis.url)]);
    assert_metrics_after_work(&watched);
    let scrape = watched.scrape();
    assert_eq!(scrape.sum("latchkey_redis_up", &[]), 1.0);
    assert!(scrape.sum("latchkey_rate_leases_total", &[]) >= 1.0);
    assert_eq!(
        scrape.sum("latchkey_database_waiting", &[("for", "writer")]),
        0.0
    );
}

/// Sends a request with any method, and asserts that it is rejected.
fn send(base: &str, method: &str, path: &str) {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    let headers = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(headers.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 4"),
        "{method} {path}: {response}"
    );
}

#[test]
fn client_input_creates_no_new_series() {
    let watched = Watched::start(&[]);
    let client = watched.client();
    let junk = |round: &str| {
        for number in 0..50 {
            let odd = format!("x{round}{number}");
            for method in ["GET", "HEAD", "POST", "DELETE", "BREW", &odd.to_uppercase()] {
                send(client.base(), method, &format!("/{odd}"));
                send(client.base(), method, &format!("/protected?{odd}"));
            }
            client.get(&format!("/api-keys/{odd}"));
            client.get(&format!("/docs/{odd}"));
            client
                .with("x-forwarded-for", &odd)
                .with_key(&odd)
                .get("/protected");
            client
                .with("x-request-id", &odd)
                .with("host", &odd)
                .get("/%70rotected");
        }
    };
    junk("a");
    let before = watched.scrape();
    junk("b");
    let after = watched.scrape();
    assert_eq!(before.series(), after.series(), "{before:?}\n{after:?}");
    assert!(
        after.sum(
            "latchkey_http_request_duration_seconds_count",
            &[("method", "other")]
        ) >= 400.0
    );
}
