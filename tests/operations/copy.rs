//! `latchkey copy` from SQLite to PostgreSQL and back, with rows of every kind.

use std::path::Path;

use latchkey::db::copy::EXCLUDED_TABLES;
use serde_json::{Value, json};

use crate::support::{
    Client, Program, path_of, postgres,
    program::{QUICK, run, run_in},
    server::query,
};

const SECRET: (&str, &str) = ("JWT_SECRET", "a-secret-for-tests-and-only-for-tests");

/// Tables that are copied. Add the tables of new migrations here, unless they are left out on purpose
/// ([`EXCLUDED_TABLES`]).
pub const COPIED: [&str; 8] = [
    "api_keys",
    "audit_log",
    "quota_usage",
    "roles",
    "usage_days",
    "usage_hours",
    "usage_rollup",
    "users",
];

pub fn start(folder: &Path, url: &str) -> Program {
    let mut settings = QUICK.to_vec();
    settings.extend([SECRET, ("DATABASE_URL", url)]);
    Program::start(folder, &settings)
}

pub fn embedded(folder: &Path, name: &str) -> String {
    format!("sqlite://{}", folder.join(name).display())
}

pub fn execute(url: &str, statements: &[&str]) {
    use diesel::{Connection as _, connection::SimpleConnection as _};
    for statement in statements {
        match url.strip_prefix("sqlite://") {
            Some(file) => diesel::SqliteConnection::establish(file)
                .unwrap()
                .batch_execute(statement),
            None => diesel::PgConnection::establish(url)
                .unwrap()
                .batch_execute(statement),
        }
        .expect(statement);
    }
}

pub fn copy(from: &str, to: &str) -> std::process::Output {
    run(&["copy", "--from", from, "--to", to], &[])
}

/// Runs a copy, and returns the lines about tables that it prints.
#[track_caller]
pub fn copied(from: &str, to: &str) -> Vec<String> {
    let output = copy(from, to);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("the same on both sides"), "{printed}");
    let is_table = |line: &&str| line.starts_with("    ") && !line.contains("sha256");
    printed
        .lines()
        .filter(is_table)
        .map(str::to_owned)
        .collect()
}

pub fn tables(lines: &[String]) -> Vec<&str> {
    let words = lines.iter().map(|line| line.split_whitespace());
    words.map(|mut words| words.nth(1).unwrap()).collect()
}

/// Accounts and keys that are created before a copy, and must work after it.
struct Fixture {
    ada: Client,
    key: Value,
    revoked: Value,
    disabled: Value,
    rotated: Value,
    successor: Value,
    limited: Value,
}

const NAME: &str = "Nächtlicher Bericht – 夜間レポート 🔑";

impl Fixture {
    fn create(program: &Program, folder: &Path, url: &str) -> Self {
        let ada = program
            .client()
            .sign_up("ada.lovelace+läuft@bücher.example");
        let bob = program.client().sign_up("bob@example.com");
        let grant = ["admin", "grant", "ada.lovelace+läuft@bücher.example"];
        let granted = run_in(folder, &grant, &[("DATABASE_URL", url)]);
        assert!(granted.status.success(), "{granted:?}");
        assert_eq!(
            ada.put_role("support", &["users:read", "keys:read"]).status,
            201
        );
        let role = json!({"role": "support"});
        assert_eq!(ada.change_user(&bob.id(), &role).status, 200);
        let carol = program.client().sign_up("carol@example.com");
        let inactive = json!({"active": false});
        assert_eq!(ada.change_user(&carol.id(), &inactive).status, 200);
        let key = ada.create_key_with(&json!({
            "name": NAME,
            "scopes": ["orders:read", "keys:verify"],
            "ip_allowlist": ["127.0.0.0/8", "2001:db8::/32"],
            "expires_in_seconds": 86400,
            "metadata": {"größe": "ñ".repeat(500), "null": null},
            "rate_limit": {"limit": 9_007_199_254_740_992u64, "window_seconds": 86400},
        }));
        // The changes write large details to the audit log.
        for round in 0..20 {
            let metadata = json!({"metadata": {"round": round, "text": "é".repeat(1500)}});
            assert_eq!(ada.patch_json(&path_of(&key), &metadata).status, 200);
        }
        let revoked = bob.create_key();
        assert_eq!(bob.delete(&path_of(&revoked)).status, 200);
        let disabled = bob.create_key();
        let off = json!({"enabled": false});
        assert_eq!(bob.patch_json(&path_of(&disabled), &off).status, 200);
        let rotated = ada.create_key();
        let grace = json!({"grace_period_seconds": 86400});
        let successor = ada.post_json(&format!("{}/rotate", path_of(&rotated)), &grace);
        assert_eq!(successor.status, 201, "{successor:?}");
        let quota = json!({"quota": {"limit": 3, "period": "total"}});
        let limited = ada.create_key_with(&quota);
        let caller = program
            .client()
            .with_key(limited["api_key"].as_str().unwrap());
        assert_eq!(caller.get("/protected").status, 200);
        Self {
            ada,
            key,
            revoked,
            disabled,
            rotated,
            successor: successor.json(),
            limited,
        }
    }

    fn assert_work_at(&self, program: &Program, quota_left: usize) {
        let with = |key: &Value| program.client().with_key(key["api_key"].as_str().unwrap());
        for good in [&self.key, &self.rotated, &self.successor] {
            assert_eq!(with(good).get("/protected").status, 200);
        }
        for bad in [&self.revoked, &self.disabled] {
            with(bad)
                .get("/protected")
                .assert_problem(401, "invalid_api_key");
        }
        for _ in 0..quota_left {
            assert_eq!(with(&self.limited).get("/protected").status, 200);
        }
        with(&self.limited)
            .get("/protected")
            .assert_problem(429, "quota_exceeded");
        let token = self.ada.header("authorization");
        let ada = program.client().with("authorization", &token);
        let key = ada.get(&path_of(&self.key)).json();
        assert_eq!(key["name"], NAME);
        assert_eq!(key["metadata"]["round"], 19);
        assert_eq!(key["rate_limit"]["limit"], 9_007_199_254_740_992u64);
        let page = ada.get("/api-keys?q=%E5%A4%9C%E9%96%93");
        assert_eq!(page.json().as_array().unwrap().len(), 1, "{page:?}");
        let users = ada.get("/admin/users?role=support").json();
        assert_eq!(users[0]["email"], "bob@example.com");
        let target = self.key["id"].as_str().unwrap();
        let events = ada
            .get(&format!("/audit-log?target_id={target}&limit=100"))
            .json();
        assert_eq!(events.as_array().unwrap().len(), 21);
    }
}

/// Rows with extreme values, for tables without rows so far.
const EDGES: [&str; 4] = [
    "INSERT INTO usage_hours VALUES
         (BLOB(00), -9223372036854775808, 'valid', 9223372036854775807),
         (BLOB(00), 0, 'Zebra', 1), (BLOB(00), 0, 'apfel', 1), (BLOB(00), 0, 'äpfel', 1),
         (BLOB(00ff00), 9223372036854775807, '', 1)",
    "INSERT INTO usage_days VALUES (BLOB(ff), 0, 'not_found', 2)",
    "UPDATE usage_rollup SET until = 1700000000000000, subject_id = BLOB(00000001)",
    "INSERT INTO audit_log (id, at, action, target_type, details)
     VALUES (BLOB(01), -1, 'strange', 'nothing', '')",
];

/// Returns [`EDGES`] with byte literals in the syntax of the database.
fn edges(url: &str) -> Vec<String> {
    let (start, end) = if url.starts_with("sqlite://") {
        ("x'", "'")
    } else {
        ("'\\x", "'::bytea")
    };
    let bytes = |part: &str| match part.split_once(')') {
        Some((hex, rest)) => format!("{start}{hex}{end}{rest}"),
        None => part.to_owned(),
    };
    let statement = |edge: &&str| {
        let mut parts = edge.split("BLOB(");
        let first = parts.next().unwrap().to_owned();
        first + &parts.map(bytes).collect::<String>()
    };
    EDGES.iter().map(statement).collect()
}

#[test]
fn copy_from_sqlite_to_postgres_and_back_preserves_every_row() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (
        embedded(folder.path(), "1.db"),
        embedded(folder.path(), "2/2.db"),
    );
    let program = start(folder.path(), &first);
    let fixture = Fixture::create(&program, folder.path(), &first);
    program.stop();
    for statement in edges(&first) {
        execute(&first, &[&statement]);
    }
    // A key that was created by an instance with a slow clock: it sorts before the key it refers to.
    execute(
        &first,
        &["INSERT INTO api_keys (id, user_id, environment, prefix, digest, created_at, rotated_from, lineage_id)
           SELECT x'00', user_id, environment, prefix, x'0000', created_at, id, lineage_id
           FROM api_keys WHERE revoked_at IS NOT NULL LIMIT 1"],
    );

    // The database also contains a table of another application.
    let foreign_table =
        "CREATE TABLE other_app (id SERIAL PRIMARY KEY, self INT REFERENCES other_app)";
    execute(
        &database.url,
        &[foreign_table, "INSERT INTO other_app VALUES (7, 7)"],
    );
    let forward = copied(&first, &database.url);
    assert_eq!(tables(&forward), COPIED);
    let back = copied(&database.url, &second);
    assert_eq!(forward, back);
    for (url, quota_left) in [(&database.url, 2), (&second, 2)] {
        let program = start(folder.path(), url);
        fixture.assert_work_at(&program, quota_left);
        // Foreign keys are enforced as before.
        program.client().sign_up("dora@example.com").create_key();
        program.stop();
    }
    let deferrable = "SELECT conname::text AS text FROM pg_constraint
                      WHERE contype = 'f' AND (condeferrable OR NOT convalidated)";
    assert!(query(&database.url, deferrable).is_empty());
}

#[test]
fn copy_from_postgres_to_sqlite_and_back_preserves_every_row() {
    let (Some(source), Some(target)) = (postgres::fresh_database(), postgres::fresh_database())
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let between = embedded(folder.path(), "between.db");
    let program = start(folder.path(), &source.url);
    let fixture = Fixture::create(&program, folder.path(), &source.url);
    program.stop();
    for statement in edges(&source.url) {
        execute(&source.url, &[&statement]);
    }
    let forward = copied(&source.url, &between);
    assert_eq!(forward, copied(&between, &target.url));
    assert_eq!(tables(&forward), COPIED);
    for url in [&between, &target.url] {
        let program = start(folder.path(), url);
        fixture.assert_work_at(&program, 2);
        program.stop();
    }
}

#[test]
fn every_table_is_listed_as_copied_or_left_out() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let migrated = run(&["migrate"], &[("DATABASE_URL", &database.url)]);
    assert!(migrated.status.success(), "{migrated:?}");
    let all = "SELECT relname::text AS text FROM pg_class
               WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace";
    let mut all = query(&database.url, all);
    all.sort();
    let mut decided = [&COPIED[..], &EXCLUDED_TABLES[..]].concat();
    decided.sort_unstable();
    assert_eq!(all, decided);

    let folder = tempfile::tempdir().unwrap();
    let url = embedded(folder.path(), "x.db");
    assert!(
        run(&["migrate"], &[("DATABASE_URL", &url)])
            .status
            .success()
    );
    let all =
        "SELECT name AS text FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    for table in query(&url, all) {
        assert!(decided.contains(&&*table), "{table}");
    }
}
