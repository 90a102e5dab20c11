//! Rows of keys in the table: keys of which the benchmark knows the plain text, and filler rows with made-up digests.

use std::fmt::Write as _;

use diesel::{
    Connection as _, PgConnection, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection, sql_query,
};
use latchkey::domain::{
    api_key::{Environment, PlainApiKey},
    limit::{Period, Quota, RateLimit},
};
use sha2::{Digest as _, Sha256};

/// Number of rows in one statement.
const CHUNK: usize = 500;
/// Limit that no run reaches.
const ENOUGH: u64 = 1_000_000_000_000;
const COLUMNS: &str =
    "id, lineage_id, user_id, name, name_folded, environment, prefix, digest, scopes, created_at";

/// Limits of keys. The default is no limit.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) rate: Option<RateLimit>,
    pub(crate) quota: Option<Quota>,
}

impl Limits {
    /// Returns all four combinations of limits with their names. The limits are so high that they allow every request.
    pub(crate) fn all() -> [(&'static str, Self); 4] {
        let rate = RateLimit::new(ENOUGH, 60);
        let quota = Quota::new(ENOUGH, Period::Month);
        [
            ("no limit", None, None),
            ("a rate limit", rate, None),
            ("a quota", None, quota),
            ("both", rate, quota),
        ]
        .map(|(name, rate, quota)| (name, Self { rate, quota }))
    }
}

/// Connection to a database, for writes to its tables.
pub(crate) enum Table {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Generates keys without inserting them.
pub(crate) fn generate(count: usize) -> Vec<String> {
    let key = |_| PlainApiKey::generate(Environment::Live).expose().to_owned();
    (0..count).map(key).collect()
}

impl Table {
    pub(crate) fn open(database_url: &str) -> Self {
        match database_url.strip_prefix("sqlite://") {
            Some(path) => {
                let mut connection = SqliteConnection::establish(path).unwrap();
                // A server may be writing at the same time.
                connection
                    .batch_execute("PRAGMA busy_timeout = 10000")
                    .unwrap();
                Self::Sqlite(connection)
            }
            None => Self::Postgres(PgConnection::establish(database_url).unwrap()),
        }
    }

    /// Inserts an account that cannot log in.
    pub(crate) fn add_user(&mut self, email: &str) {
        let id = self.bytes(&format!("{:032x}", 1));
        self.execute(&format!(
            "INSERT INTO users (id, email, email_key, password_hash, role, session_version, created_at)
             VALUES ({id}, '{email}', '{email}', '', 'member', 0, 0)"
        ));
    }

    /// Inserts these keys, with names of 12 characters and two scopes.
    pub(crate) fn add_keys(&mut self, email: &str, keys: &[String]) {
        for (chunk, keys) in keys.chunks(CHUNK).enumerate() {
            let mut rows = String::new();
            for (number, key) in keys.iter().enumerate() {
                let number = chunk * CHUNK + number;
                let id = self.id(number);
                let digest = self.bytes(&hex(&Sha256::digest(key)));
                let (separator, prefix) = (if rows.is_empty() { "" } else { "," }, &key[..12]);
                write!(
                    rows,
                    "{separator} ({id}, {id}, {}, 'Key {number:08}', 'key {number:08}', 'live', '{prefix}', {digest},
                     'orders:read orders:write', {number})",
                    user(email)
                )
                .unwrap();
            }
            self.execute(&format!("INSERT INTO api_keys ({COLUMNS}) VALUES {rows}"));
        }
    }

    /// Inserts this many rows of keys with made-up digests.
    pub(crate) fn add_others(&mut self, email: &str, count: usize) {
        let user = user(email);
        let rest = "'Key ' || n, 'key ' || n, 'live', 'sk_live_Exam'";
        self.execute(&match self {
            Self::Sqlite(_) => format!(
                "INSERT INTO api_keys ({COLUMNS}) WITH RECURSIVE numbers(n) AS
                     (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
                 SELECT unhex(printf('%032x', n)), unhex(printf('%032x', n)), {user}, {rest}, randomblob(32), '', n
                 FROM numbers"
            ),
            Self::Postgres(_) => format!(
                "INSERT INTO api_keys ({COLUMNS})
                 SELECT id, id, {user}, {rest}, sha256(int8send(n)), '', n
                 FROM generate_series(1, {count}) AS n, decode(lpad(to_hex(n), 32, '0'), 'hex') AS id"
            ),
        });
        self.execute("ANALYZE");
    }

    /// Replaces the limits of the first `before` keys that [`Table::add_keys`] inserted.
    pub(crate) fn set_limits(&mut self, before: usize, limits: Limits) {
        let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
        let (rate, quota) = (limits.rate, limits.quota);
        self.execute(&format!(
            "UPDATE api_keys SET rate_limit = {}, rate_window_seconds = {}, quota_limit = {}, quota_period = {}
             WHERE id >= {} AND id < {}",
            or_null(rate.map(|rate| rate.limit().to_string())),
            or_null(rate.map(|rate| rate.window_seconds().to_string())),
            or_null(quota.map(|quota| quota.limit().to_string())),
            or_null(quota.map(|quota| format!("'{}'", quota.period().as_str()))),
            self.id(0),
            self.id(before),
        ));
    }

    fn execute(&mut self, statement: &str) {
        let query = sql_query(statement);
        match self {
            Self::Sqlite(connection) => query.execute(connection),
            Self::Postgres(connection) => query.execute(connection),
        }
        .unwrap();
    }

    /// Returns the id of a key of [`Table::add_keys`] as a literal. No filler row has such an id.
    fn id(&self, number: usize) -> String {
        self.bytes(&format!("ff{number:030x}"))
    }

    /// Returns a literal of these bytes.
    fn bytes(&self, hex: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("x'{hex}'"),
            Self::Postgres(_) => format!(r"'\x{hex}'::bytea"),
        }
    }
}

fn user(email: &str) -> String {
    format!("(SELECT id FROM users WHERE email = '{email}')")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
