//! Between the service and PostgreSQL or Redis: lets everything through, or not.

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

/// Closes all connections when it is dropped.
pub struct Proxy {
    /// Of the same server, by way of this.
    pub url: String,
    shared: Arc<Shared>,
}

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It arrives.
    Open,
    /// ConnectionCounters are closed, and new ones too.
    Cut,
    /// It stays on its way, and connections stay open.
    Stuck,
    /// It arrives, but for PostgreSQL's notifications, which are lost.
    Deaf,
}

struct Shared {
    mode: Mutex<Mode>,
    streams: Mutex<Vec<TcpStream>>,
    /// ConnectionCounters so far.
    count: AtomicUsize,
    /// The first that many connections are stranded.
    stranded: AtomicUsize,
    /// Milliseconds that a new connection waits before it is led on.
    delay: AtomicU64,
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }
}

impl Proxy {
    /// To what this URL names, of PostgreSQL or of Redis.
    pub fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (url, target) = postgres::by_way_of(url, listener.local_addr().unwrap());
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
                    0 => lead(&client, &target, &shared),
                    delay => drop(thread::spawn(move || {
                        thread::sleep(Duration::from_millis(delay));
                        lead(&client, &target, &shared);
                    })),
                }
            }
        });
        Self { url, shared }
    }

    pub fn set(&self, mode: Mode) {
        // Under the lock a connection is either kept already or will be refused.
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
    /// ConnectionCounters that are open now stay so, and from now on nothing that is sent on them arrives. New
    /// connections are led on.
    pub fn strand(&self) {
        // Under the lock each connection is counted or comes later.
        let _streams = self.shared.streams.lock().unwrap();
        let count = self.shared.count.load(SeqCst);
        self.shared.stranded.store(count, SeqCst);
    }

    /// ConnectionCounters so far.
    pub fn connections(&self) -> usize {
        self.shared.count.load(SeqCst)
    }

    /// New connections wait for so long before they are led on.
    pub fn delay_connections(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis() as u64, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mode::Cut);
    }
}

fn lead(client: &TcpStream, target: &str, shared: &Arc<Shared>) {
    let mut streams = shared.streams.lock().unwrap();
    if shared.mode() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let number = shared.count.fetch_add(1, SeqCst);
    for (from, to, from_server) in [(client, &server, false), (&server, client, true)] {
        // Messages are small, and often two are sent before an answer is waited for.
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
        let passed = messages.pass(&buffer[..length], shared.mode() == Mode::Deaf);
        if to.write_all(&passed).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A direction of a connection, message by message.
struct Messages {
    framing: Framing,
    pending: Vec<u8>,
}

/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
enum Framing {
    /// Before the first message the server may answer a byte to "may I encrypt?".
    Start,
    /// A type byte, then a length that counts itself.
    Messages,
    None,
}

const NOTIFICATION_RESPONSE: u8 = b'A';

impl Messages {
    /// What of this, and of what came before, can be passed on. A message is held until it is whole.
    fn pass(&mut self, bytes: &[u8], deaf: bool) -> Vec<u8> {
        self.pending.extend(bytes);
        let mut passed = Vec::new();
        while let Some(&first) = self.pending.first() {
            match (&self.framing, first) {
                // Not encrypted; the question may come again, for another encryption.
                (Framing::Start, b'N') => passed.push(self.pending.remove(0)),
                // How an authentication begins, and how it is refused; Redis answers nothing like it.
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
                    if !(deaf && first == NOTIFICATION_RESPONSE) {
                        passed.extend(message);
                    }
                }
            }
        }
        passed
    }
}

/// A fault that is not one would prove nothing.
#[test]
fn deaf_it_drops_notifications_and_nothing_else() {
    use diesel::{Connection as _, PgConnection, RunQueryDsl as _, sql_query};
    let Some(database) = postgres::fresh_database() else {
        return;
    };
    let proxy = Proxy::to(&database.url);
    let mut listener = PgConnection::establish(&proxy.url).unwrap();
    let mut execute = |statement: &str| sql_query(statement).execute(&mut listener).unwrap();
    execute("LISTEN news");
    proxy.set(Mode::Deaf);
    for _ in 0..3 {
        // It hears of its own before it hears that the statement is done.
        execute("NOTIFY news");
        assert_eq!(execute("SELECT generate_series(1, 1000)"), 1000);
    }
    proxy.set(Mode::Open);
    execute("NOTIFY news, 'heard'");
    let heard: Vec<_> = listener
        .notifications_iter()
        .map(|news| news.unwrap().payload)
        .collect();
    assert_eq!(heard, ["heard"]);
}
