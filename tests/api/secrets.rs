//! Secrets are absent from the database and the log.

use std::fs;

use serde_json::json;

use crate::support::{PASSWORD, Program, path_of, postgres};

const JWT_SECRET: &str = "a-secret-for-tests-and-only-for-tests";

/// Makes every kind of request that involves a secret, some of them invalid. Returns the secrets.
fn use_every_secret(program: &Program) -> Vec<String> {
    let client = program.client();
    let ada = client.sign_up("ada@example.com");
    let key = ada.create_key();
    let api_key = key["api_key"].as_str().unwrap().to_owned();
    let caller = client.with_key(&api_key);
    assert_eq!(caller.get("/protected").status, 200);
    caller.get(&format!("/protected?x-api-key={api_key}"));
    caller.get(&format!("/{api_key}"));
    client.get(&format!("/api-keys/{api_key}"));
    client.with_token(&api_key).get("/auth/me");
    client.with_key(&format!("{api_key}x")).get("/protected");
    client
        .with_key("one")
        .with_token(&api_key)
        .get("/protected");
    let login = client.post_json(
        "/auth/login",
        &json!({"email": "ada@example.com", "password": PASSWORD}),
    );
    let token = login.text("access_token").to_owned();
    client.post_json(
        "/auth/login",
        &json!({"email": PASSWORD, "password": {"x": PASSWORD}}),
    );
    client.with("content-type", "application/json").send(
        "POST",
        "/auth/login",
        format!("{{{PASSWORD}"),
    );
    client.post_json(
        "/auth/login",
        &json!({"email": "ada@example.com", "password": "a wrong password"}),
    );
    let change = json!({"current_password": PASSWORD, "new_password": "the second password"});
    assert_eq!(ada.post_json("/auth/password", &change).status, 204);
    let ada = client.log_in("ada@example.com", "the second password");
    ada.patch_json(&path_of(&key), &json!({"name": "another", "scopes": ["a"]}));
    let rotated = ada.post(&format!("{}/rotate", path_of(&key)));
    let successor = rotated.text("api_key").to_owned();
    ada.delete(&path_of(&key));
    caller.get("/protected");
    for _ in 0..11 {
        client.post_json(
            "/auth/login",
            &json!({"email": "a secret typed instead", "password": "x"}),
        );
    }
    vec![
        successor[13..40].to_owned(),
        "a secret typed instead".to_owned(),
        api_key[13..40].to_owned(),
        token.rsplit('.').next().unwrap().to_owned(),
        PASSWORD.to_owned(),
        "the second password".to_owned(),
        "a wrong password".to_owned(),
        JWT_SECRET.to_owned(),
    ]
}

fn assert_contains_none(name: &str, bytes: &[u8], secrets: &[String]) {
    for secret in secrets {
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{name} contains {secret}");
    }
}

#[test]
fn secrets_are_absent_from_the_embedded_database_and_the_log() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            ("PORT", "0"),
            ("LOG", "trace"),
            ("LOG_FORMAT", format),
            ("BCRYPT_COST", "4"),
            ("JWT_SECRET", JWT_SECRET),
        ];
        let program = Program::start(folder.path(), &settings);
        let secrets = use_every_secret(&program);
        // While the program runs, so that the write-ahead log exists as well.
        let mut files = 0;
        for file in fs::read_dir(folder.path().join("data")).unwrap() {
            let path = file.unwrap().path();
            assert_contains_none(
                &path.display().to_string(),
                &fs::read(&path).unwrap(),
                &secrets,
            );
            files += 1;
        }
        assert!(files >= 3, "database, -wal and -shm");
        let log = program.stop();
        assert!(log.contains("/auth/login"), "the log is there: {log}");
        assert_contains_none("the log", log.as_bytes(), &secrets);
    }
}

#[test]
fn secrets_are_absent_from_postgres_and_the_log() {
    use diesel::{Connection as _, RunQueryDsl as _, sql_query, sql_types::Text};
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        row: String,
    }
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("PORT", "0"),
        ("LOG", "trace"),
        ("BCRYPT_COST", "4"),
        ("JWT_SECRET", JWT_SECRET),
        ("DATABASE_URL", &database.url),
    ];
    let program = Program::start(folder.path(), &settings);
    let secrets = use_every_secret(&program);
    let mut conn = diesel::PgConnection::establish(&database.url).unwrap();
    // A row as text shows bytes in hexadecimal, where a key would not be found; `escape` shows them as they are.
    for table in [
        "users",
        "api_keys",
        "audit_log",
        "(SELECT encode(digest, 'escape') FROM api_keys)",
    ] {
        let rows: Vec<Row> = sql_query(format!("SELECT t::text AS row FROM {table} t"))
            .load(&mut conn)
            .unwrap();
        assert!(!rows.is_empty());
        for Row { row } in rows {
            assert_contains_none(table, row.as_bytes(), &secrets);
        }
    }
    assert_contains_none("the log", program.stop().as_bytes(), &secrets);
}

#[test]
fn log_has_one_line_per_request_except_frequent_successes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("PORT", "0"), ("LOG_FORMAT", "json"), ("BCRYPT_COST", "4")];
    let program = Program::start(folder.path(), &settings);
    let client = program.client();
    let ada = client.sign_up("ada@example.com");
    let key = ada.with("x-request-id", "the-creation").create_key();
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    let caller = client.with_key(key["api_key"].as_str().unwrap());
    for _ in 0..3 {
        assert_eq!(caller.get("/protected").status, 200);
        assert_eq!(client.get("/health/ready").status, 200);
    }
    ada.with("x-request-id", "the-look").get(&path);
    ada.delete(&path);
    caller.with("x-request-id", "the-refusal").get("/protected");

    let log = program.stop();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |id: &str| {
        let found: Vec<_> = lines
            .iter()
            .filter(|line| line["request_id"] == id)
            .collect();
        assert_eq!(found.len(), 1, "{id}: {log}");
        found[0].clone()
    };
    let created = of("the-creation");
    assert_eq!(created["method"], "POST");
    assert_eq!(created["route"], "/api-keys");
    assert_eq!(created["status"], 201);
    assert!(created["ms"].as_f64().unwrap() > 0.0);
    assert_eq!(of("the-look")["route"], "/api-keys/{id}");
    assert_eq!(of("the-refusal")["refusal"], "revoked");
    assert_eq!(of("the-refusal")["level"], "INFO");

    // Successful requests to frequent routes are not logged.
    let quiet = |line: &&serde_json::Value| {
        line["status"] == 200 && (line["route"] == "/protected" || line["route"] == "/health/ready")
    };
    assert_eq!(lines.iter().filter(quiet).count(), 0);
}
