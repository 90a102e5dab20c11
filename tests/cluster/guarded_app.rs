//! The example `guarded_app`: routes of an app that embeds the library and checks keys in its own process.

use std::{path::PathBuf, process::Command};

use serde_json::json;

use crate::{
    fleet::Fleet,
    support::{Program, path_of, program::QUICK, skip},
};

/// Returns the path of the built example. Cargo builds examples only if it builds all tests.
fn example() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let built = test
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/guarded_app");
    if !built.exists() {
        skip(
            "the example guarded_app: it is not built; run `cargo test` without a filter for targets",
        );
        return None;
    }
    Some(built)
}

fn guarded_app(example: &PathBuf, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(example);
    command.env_clear().envs(settings.iter().copied());
    command
}

#[test]
fn embedding_app_rejects_a_revoked_key_as_soon_as_delete_responds() {
    let (Some(example), Some(fleet)) = (example(), Fleet::start()) else {
        return;
    };
    let url = fleet.database_url();
    let settings = [("PORT", "0"), ("DATABASE_URL", url)];
    let app = Program::listening(&mut guarded_app(&example, &settings));
    let ada = fleet.at(0, &fleet.ada);
    for _ in 0..5 {
        let key = ada.create_key_with(&json!({"scopes": ["orders:read"]}));
        let caller = app.client().with_key(key["api_key"].as_str().unwrap());
        assert_eq!(caller.get("/me").json()["key_id"], key["id"]);
        assert_eq!(caller.get("/orders").status, 200);
        let narrowed = ada.patch_json(&path_of(&key), &json!({"scopes": []}));
        assert_eq!(narrowed.status, 200, "{narrowed:?}");
        caller
            .get("/orders")
            .assert_problem(403, "insufficient_scope");
        assert_eq!(caller.get("/me").status, 200);
        assert_eq!(ada.delete(&path_of(&key)).status, 200);
        for path in ["/me", "/orders", "/orders/unknown/path"] {
            caller.get(path).assert_problem(401, "invalid_api_key");
        }
    }
    let anonymous = app.client().get("/orders/unknown/path");
    anonymous.assert_problem(401, "missing_credentials");
    app.stop();
}

#[test]
fn embedding_app_serves_an_embedded_database_once_the_service_has_stopped() {
    let Some(example) = example() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    let key = program.client().sign_up("ada@example.com").create_key();
    let url = format!("sqlite://{}/data/latchkey.db", folder.path().display());
    let settings = [("PORT", "0"), ("DATABASE_URL", url.as_str())];
    let output = guarded_app(&example, &settings).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("another process serves"), "{message}");
    program.stop();
    let app = Program::listening(&mut guarded_app(&example, &settings));
    let caller = app.client().with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/me").json()["key_id"], key["id"]);
}
