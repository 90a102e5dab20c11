//! A small HTTP server inside a test: the application behind a gateway, or a stand-in for latchkey.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Map, Value, json};

/// What came, names of headers in small letters.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// It ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    ending: Arc<AtomicBool>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<Request>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let ending: Arc<AtomicBool> = Arc::default();
        let (answer, kept, end) = (Arc::new(answer), seen.clone(), ending.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                kept.lock().expect("what was seen").connections += 1;
                let (answer, kept) = (answer.clone(), kept.clone());
                thread::spawn(move || serve(&stream, &*answer, &kept));
            }
        });
        Self {
            address,
            seen,
            ending,
        }
    }

    /// Always answers the same.
    pub fn always(answer: Answer) -> Self {
        Self::start(move |_| answer.clone())
    }

    /// An application that tells what it was sent. `/status/500` is answered with that status.
    pub fn application() -> Self {
        Self::start(|request| {
            let status = request.target.strip_prefix("/status/");
            Answer {
                status: status.map_or(200, |status| status.parse().expect("a status")),
                headers: vec![
                    ("content-type", "application/json".to_owned()),
                    ("x-application", "yes".to_owned()),
                ],
                body: request.as_json().to_string(),
            }
        })
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("what was seen").requests.clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().expect("what was seen").connections
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&Request) -> Answer, seen: &Mutex<Seen>) {
    let time = Some(Duration::from_secs(60));
    stream.set_read_timeout(time).expect("a time limit");
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = answer(&request);
        let is_head = request.method == "HEAD";
        seen.lock().expect("what was seen").requests.push(request);
        let mut head = format!("HTTP/1.1 {} As Told\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", answer.body.len());
        let body = if is_head { "" } else { &answer.body };
        let mut writer = stream;
        if writer.write_all((head + body).as_bytes()).is_err() {
            return;
        }
    }
}

/// `None` at the end of the connection.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .ok()
            .filter(|bytes| *bytes > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut first = first.split(' ').map(str::to_owned);
    let (method, target) = (first.next()?, first.next()?);
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
    };
    assert_eq!(request.header("transfer-encoding"), None, "{request:?}");
    let length = request.header("content-length").unwrap_or("0");
    request.body.resize(length.parse().ok()?, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.0 == name);
        header.map(|header| header.1.as_str())
    }

    /// Each header is a list: it may have come several times.
    fn as_json(&self) -> Value {
        let mut headers: Map<String, Value> = Map::new();
        for (name, value) in &self.headers {
            let values = headers.entry(name).or_insert(json!([]));
            values.as_array_mut().expect("a list").push(json!(value));
        }
        json!({
            "method": self.method,
            "target": self.target,
            "headers": headers,
            "body": String::from_utf8_lossy(&self.body),
        })
    }
}
