//! Runs the walkthrough of the README exactly as it is written there.

use std::{fs, path::Path, process::Command};

use crate::support::{Program, postgres, skip};

/// Returns the shell commands between the markers `<!-- walk -->` of the README, adapted to this server.
fn walkthrough_commands(base: &str) -> String {
    let readme = fs::read_to_string("README.md").unwrap();
    let sections = readme.split("<!-- walk -->").skip(1);
    let sections = sections.map(|section| section.split_once("<!-- /walk -->").unwrap().0);
    let commands: String = sections
        .flat_map(|section| section.split("```sh\n").skip(1))
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(commands.contains("http://127.0.0.1:8000"));
    commands
        .replace("http://127.0.0.1:8000", base)
        .replace("target/release/latchkey", env!("CARGO_BIN_EXE_latchkey"))
}

fn run_walkthrough(folder: &Path, settings: &[(&str, &str)]) {
    let program = Program::start(folder, settings);
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl: not installed");
    }
    let output = Command::new("sh")
        .args(["-ec", &walkthrough_commands(&program.base)])
        .current_dir(folder)
        .env_remove("DATABASE_URL")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let steps = [
        r#""role":"member""#,
        r#""api_key":"sk_live_"#,
        r#""message":"The key is valid.""#,
        r#""status":"active""#,
        r#""status":"revoked""#,
        "HTTP/1.1 401 Unauthorized",
        r#""code":"invalid_api_key""#,
        r#""total":"#,
        r#""buckets":[{"start":""#,
        // A key for one purpose.
        r#""scopes":["orders:read"],"ip_allowlist":["127.0.0.0/8"],"rate_limit":null,"quota":null,"metadata":{"team":"billing"}"#,
        r#""message":"The key is valid.""#,
        r#""api_key":"sk_live_"#,
        r#""rotated_from":""#,
        r#""message":"The key is valid.""#,
        r#""message":"The key is valid.""#,
        r#""ip_allowlist":["203.0.113.0/24"],"rate_limit":null,"quota":null,"metadata":{"host":"reports"}"#,
        r#""code":"ip_not_allowed""#,
        r#""action":"api_key.rotated""#,
        r#""action":"api_key.created""#,
        // A key with limits.
        "HTTP/1.1 200 OK",
        r#"ratelimit-policy: "key";q=3;w=60, "quota";q=1000;w="#,
        r#""message":"The key is valid.""#,
        r#""message":"The key is valid.""#,
        r#""message":"The key is valid.""#,
        "HTTP/1.1 429 Too Many Requests",
        "retry-after: 20",
        r#""code":"rate_limited""#,
        // An operator.
        "ada@example.com has the role admin",
        r#""role":"admin""#,
        r#""permissions":["users:read","keys:read","keys:write"],"built_in":false"#,
        r#""name":"nightly report""#,
        r#""buckets":[{"start":""#,
        // A back end, and a gateway.
        r#"{"valid":true,"code":"valid","key":{"id":"#,
        r#"{"results":[{"valid":false,"code":"ip_not_allowed","key":{"id":"#,
        r#"{"valid":true,"code":"valid","#,
        "HTTP/1.1 200 OK",
        "x-api-key-scopes: orders:read",
    ];
    let mut rest = &*printed;
    for step in steps {
        let found = rest
            .find(step)
            .unwrap_or_else(|| panic!("no {step} in {rest}\nof {printed}"));
        rest = &rest[found + step.len()..];
    }
}

#[test]
fn readme_walkthrough_works_as_written_on_the_embedded_database() {
    let folder = tempfile::tempdir().unwrap();
    run_walkthrough(folder.path(), &[("PORT", "0")]);
}

#[test]
fn readme_walkthrough_works_as_written_on_postgres() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    let settings = [("PORT", "0"), ("DATABASE_URL", &database.url), secret];
    run_walkthrough(folder.path(), &settings);
}
