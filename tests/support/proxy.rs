//! TCP proxy between the service and PostgreSQL or Redis that can cut, delay or stall connections.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::postgres;

/// A running proxy. It closes all connections when it is dropped.
pub struct Proxy {
    /// URL of the same server through the proxy.
    pub url: String,
    shared: Arc<Shared>,
}

/// Treatment of the transmitted data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Open,
    /// Closes all connections, including new ones.
    Cut,
    /// Holds back all data; connections stay open.
    Stuck,
    /// Forwards everything except notifications of PostgreSQL, which are dropped.
    DropNotifications,
}

struct Shared {
    mode: Mutex<Mode>,
    streams: Mutex<Vec<TcpStream>>,
    /// Number of connections so far.
    count: AtomicUsize,
    /// Number of connections, from the first one, that are stranded: their data is dropped.
    stranded: AtomicUsize,
    /// Delay before a new connection is forwarded, in milliseconds.
    delay: AtomicU64,
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }
}

impl Proxy {
    /// Starts a proxy for the server of this URL, PostgreSQL or Redis.
    pub fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (url, target) = postgres::via_address(url, listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Open),
            streams: Mutex::default(),
            count: AtomicUsize::new(0),
            stranded: AtomicUsize::new(0),
            delay: AtomicU64::new(0),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (target, shared) = (target.clone(), accepting.clone());
                match shared.delay.load(SeqCst) {
                    0 => forward(&client, &target, &shared),
                    delay => drop(thread::spawn(move || {
                        thread::sleep(Duration::from_millis(delay));
                        forward(&client, &target, &shared);
                    })),
                }
            }
        });
        Self { url, shared }
    }

    pub fn set(&self, mode: Mode) {
        // Under the lock, a connection is either registered already or will be rejected.
        let mut streams = self.shared.streams.lock().unwrap();
        *self.shared.mode.lock().unwrap() = mode;
        if mode == Mode::Cut {
            for stream in streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Proxy {
    /// Strands all open connections: they stay open, and all data sent on them is dropped. New connections are
    /// forwarded.
    pub fn strand(&self) {
        // Under the lock, each connection is either counted already or opened later.
        let _streams = self.shared.streams.lock().unwrap();
        let count = self.shared.count.load(SeqCst);
        self.shared.stranded.store(count, SeqCst);
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.shared.count.load(SeqCst)
    }

    /// Delays new connections before they are forwarded.
    pub fn delay_connections(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis() as u64, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mode::Cut);
    }
}

fn forward(client: &TcpStream, target: &str, shared: &Arc<Shared>) {
    let mut streams = shared.streams.lock().unwrap();
    if shared.mode() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let number = shared.count.fetch_add(1, SeqCst);
    for (from, to, from_server) in [(client, &server, false), (&server, client, true)] {
        // Messages are small, and clients often send two before they wait for a response.
        to.set_nodelay(true).unwrap();
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        streams.push(from.try_clone().unwrap());
        let shared = shared.clone();
        let framing = if from_server {
            Framing::Start
        } else {
            Framing::None
        };
        thread::spawn(move || pump(from, to, framing, number, &shared));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, framing: Framing, number: usize, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    let mut messages = Messages {
        framing,
        pending: Vec::new(),
    };
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        while shared.mode() == Mode::Stuck {
            thread::sleep(Duration::from_millis(5));
        }
        if number < shared.stranded.load(SeqCst) {
            continue;
        }
        let passed = messages.pass(&buffer[..length], shared.mode() == Mode::DropNotifications);
        if to.write_all(&passed).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// One direction of a connection, split into messages.
struct Messages {
    framing: Framing,
    pending: Vec<u8>,
}

/// Framing of the messages of PostgreSQL.
///
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
enum Framing {
    /// Start of a connection: the server may respond to a request for encryption with a single byte.
    Start,
    /// Messages of a type byte and a length that includes itself.
    Messages,
    /// No framing: another protocol or direction, which is forwarded as is.
    None,
}

const NOTIFICATION_RESPONSE: u8 = b'A';

impl Messages {
    /// Returns the bytes that can be forwarded, of these and of pending ones. A message is held until it is complete.
    fn pass(&mut self, bytes: &[u8], drop_notifications: bool) -> Vec<u8> {
        self.pending.extend(bytes);
        let mut passed = Vec::new();
        while let Some(&first) = self.pending.first() {
            match (&self.framing, first) {
                // Encryption is declined. The client may request another kind of encryption next.
                (Framing::Start, b'N') => passed.push(self.pending.remove(0)),
                // Authentication request, error, or protocol negotiation. Responses of Redis begin with other bytes.
                (Framing::Start, b'R' | b'E' | b'v') => self.framing = Framing::Messages,
                (Framing::Start, _) => self.framing = Framing::None,
                (Framing::None, _) => passed.append(&mut self.pending),
                (Framing::Messages, _) => {
                    let length = self.pending.get(1..5).and_then(|l| l.try_into().ok());
                    let end = length.map(|length| 1 + u32::from_be_bytes(length) as usize);
                    let Some(end) = end.filter(|&end| end <= self.pending.len()) else {
                        break;
                    };
                    let message = self.pending.drain(..end);
                    if !(drop_notifications && first == NOTIFICATION_RESPONSE) {
                        passed.extend(message);
                    }
                }
            }
        }
        passed
    }
}

/// Proves that the fault is a real one: otherwise tests that use it would prove nothing.
#[test]
fn proxy_in_drop_notifications_mode_drops_only_notifications() {
    use diesel::{Connection as _, PgConnection, RunQueryDsl as _, sql_query};
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let mut listener = PgConnection::establish(&proxy.url).unwrap();
    let mut execute = |statement: &str| sql_query(statement).execute(&mut listener).unwrap();
    execute("LISTEN events");
    proxy.set(Mode::DropNotifications);
    for _ in 0..3 {
        // A session gets its own notification before the completion of the statement.
        execute("NOTIFY events");
        assert_eq!(execute("SELECT generate_series(1, 1000)"), 1000);
    }
    proxy.set(Mode::Open);
    execute("NOTIFY events, 'delivered'");
    let delivered: Vec<_> = listener
        .notifications_iter()
        .map(|notification| notification.unwrap().payload)
        .collect();
    assert_eq!(delivered, ["delivered"]);
}
