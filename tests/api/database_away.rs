//! While the database is out of reach every answer is 503, soon; afterwards all is well again.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Client, PASSWORD, TestServer, postgres};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Between the service and PostgreSQL: can cut every connection, or let none through.
struct Proxy {
    address: SocketAddr,
    listener: TcpListener,
    state: Arc<AtomicU8>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

const OPEN: u8 = 0;
const CUT: u8 = 1;
const STUCK: u8 = 2;

impl Proxy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
            state: Arc::default(),
            streams: Arc::default(),
        }
    }

    fn lead_to(&self, target: String) {
        let listener = self.listener.try_clone().unwrap();
        let (shared, kept) = (self.state.clone(), self.streams.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let server = TcpStream::connect(&target).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    kept.lock().unwrap().push(from.try_clone().unwrap());
                    let state = shared.clone();
                    thread::spawn(move || pump(from, to, &state));
                }
            }
        });
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
        if state == CUT {
            for stream in self.streams.lock().unwrap().drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        while state.load(Ordering::SeqCst) == STUCK {
            thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn assert_unavailable(caller: &Client, user: &Client) {
    let body = json!({"email": "bob@example.com", "password": PASSWORD});
    for ask in [
        &|| caller.get("/protected") as _,
        &|| user.get("/auth/me"),
        &|| user.post("/api-keys"),
        &|| caller.get("/health/ready"),
        &|| Client::new(caller.base()).post_json("/auth/signup", &body),
        &|| Client::new(caller.base()).post_json("/auth/login", &body),
    ] as [&dyn Fn() -> crate::support::Reply; 6]
    {
        let asked = Instant::now();
        ask().assert_problem(503, "unavailable");
        assert!(
            asked.elapsed() < TIMEOUT + Duration::from_secs(3),
            "{:?}",
            asked.elapsed()
        );
    }
    // What needs no database goes on.
    assert_eq!(caller.get("/health/live").status, 200);
    let garbage = Client::new(caller.base())
        .with_key("sk_live_garbage")
        .get("/protected");
    garbage.assert_problem(401, "invalid_api_key");
}

/// Asks until it is answered, within a bound.
fn await_recovery(caller: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while caller.get("/protected").status != 200 {
        assert!(Instant::now() < deadline, "it does not recover");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_postgres_that_is_gone_or_hangs_is_503_and_comes_back() {
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::new();
    let (url, target) = postgres::by_way_of(&database.url, proxy.address);
    proxy.lead_to(target);
    let server = TestServer::on(&url, |config| {
        config.database.timeout = TIMEOUT;
        config.database.pool_size = 3;
    });
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    assert_eq!(caller.get("/protected").status, 200);

    for how in [CUT, STUCK, CUT] {
        proxy.set(how);
        assert_unavailable(&caller, &ada);
        proxy.set(OPEN);
        await_recovery(&caller);
        for _ in 0..20 {
            assert_eq!(caller.get("/protected").status, 200);
        }
        assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 1);
    }
    // Nobody failed to log in while nobody could tell.
    for _ in 0..3 {
        server.anonymous().log_in("ada@example.com", PASSWORD);
    }
}

#[test]
fn an_embedded_database_that_somebody_else_locks_is_503_and_comes_back() {
    use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
    let server = TestServer::on_sqlite(|config| config.database.timeout = TIMEOUT);
    let ada = server.user("ada@example.com");
    let key = ada.create_key();
    let caller = server
        .anonymous()
        .with_key(key["api_key"].as_str().unwrap());
    let file = server.database_url.trim_start_matches("sqlite://");

    let mut other = SqliteConnection::establish(file).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    ada.post("/api-keys").assert_problem(503, "unavailable");
    // Readers are not held up by a writer.
    assert_eq!(caller.get("/protected").status, 200);
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(ada.post("/api-keys").status, 201);
    assert_eq!(ada.get("/api-keys").json().as_array().unwrap().len(), 2);
}
