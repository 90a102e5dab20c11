//! Runs the service inside the test process on a free port, so that a test can advance its clock.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use actix_web::dev::ServerHandle;
use clap::{Args as _, FromArgMatches as _};
use latchkey::{config::Config, domain::clock::Clock, server::Server};

use super::{Client, program::run};

/// A running server. Dropping it shuts the server down and removes a temporary SQLite database.
pub struct TestServer {
    pub base: String,
    pub clock: Clock,
    pub database_url: String,
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<()>>,
    folder: Option<tempfile::TempDir>,
}

impl TestServer {
    pub fn on_sqlite(adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/latchkey.db", folder.path().display());
        let mut server = Self::on(&url, adjust);
        server.folder = Some(folder);
        server
    }

    /// Starts a server on this database, which is created if it does not exist.
    pub fn on(database_url: &str, adjust: impl FnOnce(&mut Config)) -> Self {
        let database_url = database_url.to_owned();
        let mut config = config(&database_url);
        adjust(&mut config);
        let clock = Clock::default();
        let server = Server::prepare(&config, clock.clone()).expect("a server");
        let base = format!("http://{}", server.address().expect("an address"));
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let system = actix_web::rt::System::new();
            let started = move |handle| sender.send(handle).expect("a test that waits");
            system.block_on(server.run(started)).expect("a good end");
        });
        Self {
            base,
            clock,
            database_url,
            handle: receiver.recv().expect("a handle"),
            thread: Some(thread),
            folder: None,
        }
    }

    /// Returns a client that is not logged in.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.base)
    }

    /// Returns a client with a new account that is logged in.
    pub fn user(&self, email: &str) -> Client {
        self.anonymous().sign_up(email)
    }

    /// Returns a client that uses this API key.
    pub fn caller(&self, key: &serde_json::Value) -> Client {
        let key = key["api_key"].as_str().expect("a key");
        self.anonymous().with_key(key)
    }

    /// Returns a client with a new account that has the role `admin`, granted on the command line.
    pub fn admin(&self, email: &str) -> Client {
        let admin = self.user(email);
        let output = self.run_admin(&["grant", email]);
        assert!(output.status.success(), "{output:?}");
        admin
    }

    /// Returns a client with a new account and a new role with these permissions, which `admin` creates and assigns.
    pub fn operator(&self, admin: &Client, email: &str, permissions: &[&str]) -> Client {
        let operator = self.user(email);
        let name = email.split('@').next().expect("a name");
        let created = admin.put_role(name, permissions);
        assert_eq!(created.status, 201, "{created:?}");
        let assigned = admin.change_user(&operator.id(), &serde_json::json!({"role": name}));
        assert_eq!(assigned.status, 200, "{assigned:?}");
        operator
    }

    /// Runs `latchkey admin …` on the database of the running server.
    pub fn run_admin(&self, arguments: &[&str]) -> std::process::Output {
        let arguments = [&["admin"], arguments].concat();
        run(&arguments, &[("DATABASE_URL", &self.database_url)])
    }

    /// Executes a statement on the database, without the server.
    pub fn execute(&self, statement: &str) {
        execute_on(&self.database_url, statement);
    }

    /// Returns the column `text` of the rows of a query.
    pub fn query(&self, text: &str) -> Vec<String> {
        query(&self.database_url, text)
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

impl TestServer {
    /// Shuts the server down and keeps its database.
    pub fn stop(&mut self) {
        // The call itself requests the shutdown; the future only waits for it.
        drop(self.handle.stop(false));
        let Some(thread) = self.thread.take() else {
            return;
        };
        let _ = thread.join();
        // The threads of the server end a moment later, and release the claim on an embedded database.
        let url = self.database_url.parse().expect("a URL");
        let deadline = Instant::now() + Duration::from_secs(10);
        while latchkey::db::Claim::take(&url).is_err() {
            assert!(Instant::now() < deadline, "the database is not released");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
        drop(self.folder.take());
    }
}

/// Executes a statement on a database, without the server.
pub fn execute_on(database_url: &str, statement: &str) {
    use diesel::{Connection as _, RunQueryDsl as _, sql_query};
    let statement = sql_query(statement);
    match database_url.strip_prefix("sqlite://") {
        Some(file) => statement.execute(&mut connect_with_busy_timeout(file)),
        None => statement
            .execute(&mut diesel::PgConnection::establish(database_url).expect("PostgreSQL")),
    }
    .expect("done");
}

/// Opens a connection that waits up to 10 seconds for a server that is writing or shutting down.
fn connect_with_busy_timeout(file: &str) -> diesel::SqliteConnection {
    use diesel::{Connection as _, connection::SimpleConnection as _};
    let mut conn = diesel::SqliteConnection::establish(file).expect(file);
    let wait = conn.batch_execute("PRAGMA busy_timeout = 10000");
    wait.expect("a connection that waits");
    conn
}

/// Returns the column `text` of the rows of a query on a database.
pub fn query(database_url: &str, query: &str) -> Vec<String> {
    use diesel::{Connection as _, RunQueryDsl as _, sql_query, sql_types::Text};
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let query = sql_query(query);
    let rows: Vec<Row> = match database_url.strip_prefix("sqlite://") {
        Some(file) => query.load(&mut connect_with_busy_timeout(file)),
        None => query.load(&mut diesel::PgConnection::establish(database_url).expect("PostgreSQL")),
    }
    .expect("rows");
    rows.into_iter().map(|row| row.text).collect()
}

/// Returns the default settings, adjusted for tests: a free port, two workers, cheap password hashes.
pub fn config(database_url: &str) -> Config {
    let arguments = [
        "latchkey",
        "--port=0",
        "--workers=2",
        "--bcrypt-cost=4",
        "--jwt-secret=a-secret-for-tests-and-only-for-tests",
        "--database-url",
        database_url,
    ];
    let matches = Config::augment_args(clap::Command::new("latchkey"))
        .try_get_matches_from(arguments)
        .expect("arguments");
    Config::from_arg_matches(&matches).expect("a config")
}
