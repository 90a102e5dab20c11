//! The service, run inside the test process on a free port, so that a test can move its clock.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use actix_web::dev::ServerHandle;
use clap::{Args as _, FromArgMatches as _};
use latchkey::{config::Config, domain::clock::Clock, server::Server};

use super::{Client, program::run};

/// A running server. Dropping it stops it and removes its database.
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

    /// On a database that is there, or will be.
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

    /// Somebody who has not logged in.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.base)
    }

    /// Somebody who has.
    pub fn user(&self, email: &str) -> Client {
        self.anonymous().sign_up(email)
    }

    /// Whoever uses this key.
    pub fn caller(&self, key: &serde_json::Value) -> Client {
        let key = key["api_key"].as_str().expect("a key");
        self.anonymous().with_key(key)
    }

    /// Somebody with the role `admin`, who was given it on the command line.
    pub fn admin(&self, email: &str) -> Client {
        let admin = self.user(email);
        let output = self.run_admin(&["grant", email]);
        assert!(output.status.success(), "{output:?}");
        admin
    }

    /// Somebody with a role that allows this, which `admin` makes and gives.
    pub fn operator(&self, admin: &Client, email: &str, permissions: &[&str]) -> Client {
        let operator = self.user(email);
        let name = email.split('@').next().expect("a name");
        let made = admin.put_role(name, permissions);
        assert_eq!(made.status, 201, "{made:?}");
        let given = admin.change_user(&operator.id(), &serde_json::json!({"role": name}));
        assert_eq!(given.status, 200, "{given:?}");
        operator
    }

    /// `latchkey admin …` on this server's database, while it runs.
    pub fn run_admin(&self, arguments: &[&str]) -> std::process::Output {
        let arguments = [&["admin"], arguments].concat();
        run(&arguments, &[("DATABASE_URL", &self.database_url)])
    }

    /// Does something to the database behind the server's back.
    pub fn execute(&self, statement: &str) {
        execute_on(&self.database_url, statement);
    }

    /// The column `text` of what a query finds.
    pub fn query(&self, text: &str) -> Vec<String> {
        query(&self.database_url, text)
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

impl TestServer {
    /// Stops it, in order, and keeps its database.
    pub fn stop(&mut self) {
        // The order to stop is sent at once; the future only waits for its end.
        drop(self.handle.stop(false));
        let Some(thread) = self.thread.take() else {
            return;
        };
        let _ = thread.join();
        // The server's threads end a moment later, and with them its claim on an embedded database.
        let url = self.database_url.parse().expect("a URL");
        let deadline = Instant::now() + Duration::from_secs(10);
        while latchkey::db::Claim::take(&url).is_err() {
            assert!(Instant::now() < deadline, "the database is not given back");
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

/// Does something to a database behind the back of whoever serves it.
pub fn execute_on(database_url: &str, statement: &str) {
    use diesel::{Connection as _, RunQueryDsl as _, sql_query};
    let statement = sql_query(statement);
    match database_url.strip_prefix("sqlite://") {
        Some(file) => statement.execute(&mut patient(file)),
        None => statement
            .execute(&mut diesel::PgConnection::establish(database_url).expect("PostgreSQL")),
    }
    .expect("done");
}

/// A connection that waits for a server that is writing, or that has just stopped and is tidying up.
fn patient(file: &str) -> diesel::SqliteConnection {
    use diesel::{Connection as _, connection::SimpleConnection as _};
    let mut conn = diesel::SqliteConnection::establish(file).expect(file);
    let wait = conn.batch_execute("PRAGMA busy_timeout = 10000");
    wait.expect("a connection that waits");
    conn
}

/// The column `text` of what a query finds in a database.
pub fn query(database_url: &str, query: &str) -> Vec<String> {
    use diesel::{Connection as _, RunQueryDsl as _, sql_query, sql_types::Text};
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let query = sql_query(query);
    let rows: Vec<Row> = match database_url.strip_prefix("sqlite://") {
        Some(file) => query.load(&mut patient(file)),
        None => query.load(&mut diesel::PgConnection::establish(database_url).expect("PostgreSQL")),
    }
    .expect("rows");
    rows.into_iter().map(|row| row.text).collect()
}

/// The defaults, with what every test wants otherwise.
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
