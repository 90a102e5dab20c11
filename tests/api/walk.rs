//! The walk of the README, as it is written there.

use std::{fs, process::Command};

use crate::support::{Program, postgres, skip};

/// The shell commands of the README between its two markers, for the server at `base`.
fn walk(base: &str) -> String {
    let readme = fs::read_to_string("README.md").unwrap();
    let (_, section) = readme.split_once("<!-- walk -->").unwrap();
    let (section, _) = section.split_once("<!-- /walk -->").unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let commands: String = blocks
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(commands.contains("http://127.0.0.1:8000"));
    commands.replace("http://127.0.0.1:8000", base)
}

fn run_walk(program: &Program) {
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl: it is not there");
    }
    let output = Command::new("sh")
        .args(["-ec", &walk(&program.base)])
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
        r#""message":"The key is good.""#,
        r#""status":"active""#,
        r#""status":"revoked""#,
        "HTTP/1.1 401 Unauthorized",
        r#""code":"invalid_api_key""#,
    ];
    let mut rest = &*printed;
    for step in steps {
        let found = rest
            .find(step)
            .unwrap_or_else(|| panic!("no {step} in {rest}\nof {printed}"));
        rest = &rest[found..];
    }
}

#[test]
fn the_walk_of_the_readme_works_as_written_on_the_embedded_database() {
    let folder = tempfile::tempdir().unwrap();
    run_walk(&Program::start(folder.path(), &[("PORT", "0")]));
}

#[test]
fn the_walk_of_the_readme_works_as_written_on_postgres() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");
    run_walk(&Program::start(
        folder.path(),
        &[("PORT", "0"), ("DATABASE_URL", &database.url), secret],
    ));
}
