//! Cases in which `latchkey copy` fails and copies nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    copy::{COPIED, copied, copy, embedded, execute, start, tables},
    support::{
        postgres,
        program::{assert_fails_with_one_line, run},
        server::query,
    },
};

#[test]
fn copy_rejects_a_target_with_rows_and_a_database_in_use() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (lite, other) = (
        embedded(folder.path(), "1.db"),
        embedded(folder.path(), "2.db"),
    );
    let serving = start(folder.path(), &lite);
    serving.client().sign_up("ada@example.com");
    assert_fails_with_one_line(
        &copy(&lite, &database.url),
        1,
        &["1.db", "another process serves"],
    );
    assert_fails_with_one_line(
        &copy(&database.url, &lite),
        1,
        &["1.db", "another process serves"],
    );
    serving.stop();

    let serving = start(folder.path(), &database.url);
    assert_fails_with_one_line(&copy(&database.url, &other), 1, &["the source is in use"]);
    assert_fails_with_one_line(&copy(&lite, &database.url), 1, &["the target is in use"]);
    serving.stop();
    // With another application_name, the service is detected by the lease that it renews.
    let separator = if database.url.contains('?') { '&' } else { '?' };
    let named = format!("{}{separator}application_name=other", database.url);
    let serving = start(folder.path(), &named);
    let deadline = Instant::now() + Duration::from_secs(30);
    while query(&database.url, "SELECT 'one' AS text FROM instances").is_empty() {
        assert!(Instant::now() < deadline, "the service acquires no lease");
        thread::sleep(Duration::from_millis(5));
    }
    assert_fails_with_one_line(&copy(&database.url, &other), 1, &["the source is in use"]);
    serving.client().sign_up("bob@example.com");
    // The row of a killed instance stays, but is not renewed.
    serving.signal("KILL");
    drop(serving);

    assert_fails_with_one_line(
        &copy(&lite, &database.url),
        1,
        &["not empty", "audit_log has 1 rows"],
    );
    assert_eq!(
        query(&database.url, "SELECT email AS text FROM users"),
        ["bob@example.com"]
    );
    assert_fails_with_one_line(&copy(&lite, &lite), 1, &["another process serves"]);
    assert_eq!(tables(&copied(&database.url, &other)), COPIED);
    assert_fails_with_one_line(&copy(&database.url, &other), 1, &["not empty"]);
}

#[test]
fn failed_copy_leaves_the_target_empty() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let lite = embedded(folder.path(), "1.db");
    let program = start(folder.path(), &lite);
    let ada = program.client().sign_up("ada@example.com");
    ada.create_key();
    assert!(ada.get("/auth/me").status == 200);
    program.stop();
    let is_empty = || {
        let rows = "SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM api_keys)
                    + (SELECT count(*) FROM audit_log) AS text";
        let rows = rows.replace("AS text", "|| '' AS text");
        let roles = "SELECT name AS text FROM roles ORDER BY name";
        assert_eq!(query(&database.url, &rows), ["0"]);
        assert_eq!(query(&database.url, roles), ["admin", "member"]);
    };
    // The last table contains a value that PostgreSQL rejects.
    execute(&lite, &["UPDATE users SET email = 'a' || char(0)"]);
    assert_fails_with_one_line(&copy(&lite, &database.url), 1, &["nothing was copied"]);
    is_empty();
    execute(&lite, &["UPDATE users SET email = x'00'"]);
    assert_fails_with_one_line(&copy(&lite, &database.url), 1, &["users.email"]);
    is_empty();
    execute(
        &lite,
        &[
            "UPDATE users SET email = 'ada@example.com'",
            "PRAGMA foreign_keys = OFF; UPDATE api_keys SET user_id = x'00'",
        ],
    );
    assert_fails_with_one_line(
        &copy(&lite, &database.url),
        1,
        &["nothing was copied", "foreign key"],
    );
    is_empty();
    let output = copy(&lite, &embedded(folder.path(), "2.db"));
    assert_fails_with_one_line(&output, 1, &["nothing was copied", "FOREIGN KEY"]);

    execute(
        &lite,
        &["DELETE FROM __diesel_schema_migrations WHERE version LIKE '20261126000001%'"],
    );
    assert_fails_with_one_line(&copy(&lite, &database.url), 1, &["latchkey migrate"]);
    is_empty();
    let missing = embedded(folder.path(), "missing.db");
    assert_fails_with_one_line(&copy(&missing, &database.url), 1, &["missing.db"]);
    assert!(!folder.path().join("missing.db").exists());
    let not_ours = postgres::fresh_database().unwrap();
    assert_fails_with_one_line(
        &copy(&not_ours.url, &embedded(folder.path(), "3.db")),
        1,
        &["not a database of latchkey"],
    );
}

#[test]
fn copy_without_valid_urls_fails_and_prints_no_url() {
    assert_fails_with_one_line(&run(&["copy"], &[]), 2, &["COPY_FROM", "--from"]);
    let secret = "postgres://app:hunter22@127.0.0.1:1/x";
    for (from, to, code, message) in [
        ("mysql://hunter22", "sqlite://x", 2, "--from"),
        (secret, "hunter22", 2, "--to"),
        (
            secret,
            "sqlite://x.db",
            1,
            "the source: cannot connect to PostgreSQL",
        ),
        (
            "postgres://app:hunter22@localhost/x?hunter22",
            "sqlite://x.db",
            2,
            "the source is not a valid PostgreSQL URL",
        ),
    ] {
        let output = copy(from, to);
        assert_fails_with_one_line(&output, code, &[message]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "sqlite://nowhere.db\n").unwrap();
    let settings = [
        ("COPY_FROM_FILE", file.to_str().unwrap()),
        ("COPY_TO", "sqlite://x.db"),
    ];
    assert_fails_with_one_line(&run(&["copy"], &settings), 1, &["nowhere.db"]);
}
