//! deploy/nginx.conf: nginx accepts it, and its limits match those of the service.

use std::{fs, process::Command};

use super::{Compose, Help, compose::strings, read, seconds};
use crate::runner;

#[test]
fn nginx_accepts_its_configuration() {
    let Some(nginx) = runner::NGINX.path_if_installed() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut conf = read("deploy/nginx.conf");
    conf = conf.replace("/tmp/", &format!("{}/", folder.path().display()));
    let compose = Compose::read();
    // Host names that exist in the container only.
    for host in strings(&compose.service("nginx")["extra_hosts"]) {
        let (name, address) = host.split_once(':').expect(host);
        conf = conf.replace(&format!(" {name}:"), &format!(" {address}:"));
    }
    fs::write(folder.path().join("nginx.conf"), conf).unwrap();
    let output = Command::new(nginx)
        .args(["-e", "stderr", "-t", "-p", ".", "-c", "nginx.conf"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    assert!(!messages.contains("[warn]"), "{messages}");
}

/// Returns the value of the first directive with this name after the text `after`.
fn directive(name: &str, after: &str) -> String {
    let conf = read("deploy/nginx.conf");
    let (_, rest) = conf.split_once(after).expect(after);
    let mut lines = rest.lines().map(str::trim);
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_suffix(';'));
    value.expect(name).trim().to_owned()
}

#[test]
fn nginx_limits_match_those_of_the_service() {
    let help = Help::read();
    let idle = seconds(&directive("keepalive_timeout", "upstream latchkey {"));
    assert!(idle < help.default_seconds("KEEP_ALIVE_SECONDS"), "{idle}");
    for (name, setting) in [
        ("client_header_timeout", "HEAD_SECONDS"),
        ("client_body_timeout", "BODY_SECONDS"),
    ] {
        let timeout = seconds(&directive(name, "http {"));
        assert_eq!(timeout, help.default_seconds(setting), "{name}");
    }
    let connections: usize = directive("limit_conn clients", "http {").parse().unwrap();
    let limit: usize = help
        .default_of("MAX_CONNECTIONS_PER_ADDRESS")
        .parse()
        .unwrap();
    assert!(connections <= limit, "{connections}");
    // The limit of nginx is higher, so that the service itself rejects a body that is too large.
    let body = directive("client_max_body_size", "http {");
    let body: usize = body.strip_suffix('k').expect("KiB").parse().unwrap();
    let limit: usize = help.default_of("MAX_BODY_BYTES").parse().unwrap();
    assert!(body * 1024 > limit, "{body}");
    // A key check gets the 503 of a database outage before nginx retries it at the other instance.
    let checks = seconds(&directive("proxy_read_timeout", "location /verify {"));
    assert!(checks > 5, "{checks}");
}

#[test]
fn nginx_access_log_knows_every_path_prefix_of_the_api() {
    let document: serde_json::Value = serde_json::from_str(&read("openapi/openapi.json")).unwrap();
    let conf = read("deploy/nginx.conf");
    let (_, words) = conf.split_once("(?<known>").unwrap();
    let words: Vec<_> = words.split_once(')').unwrap().0.split('|').collect();
    for path in document["paths"].as_object().unwrap().keys() {
        let first = path.split('/').nth(1).unwrap();
        assert!(words.contains(&first), "{path}");
    }
}

#[test]
fn nginx_retries_only_idempotent_requests_and_key_checks() {
    let elsewhere = directive("proxy_next_upstream ", "http {");
    assert!(!elsewhere.contains("non_idempotent"), "{elsewhere}");
    for location in ["location /verify {", "location /forward-auth {"] {
        let here = directive("proxy_next_upstream ", location);
        assert!(here.ends_with("non_idempotent"), "{location} {here}");
    }
}
