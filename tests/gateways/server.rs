//! Minimal HTTP server inside a test: the application behind a gateway, or a stand-in for latchkey.

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

/// Request as it was received, with header names in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// Server that stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    recorded: Arc<Mutex<Recorded>>,
    shutdown: Arc<AtomicBool>,
}

#[derive(Default)]
struct Recorded {
    connections: usize,
    requests: Vec<Request>,
}

impl Server {
    pub fn start(respond: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let recorded: Arc<Mutex<Recorded>> = Arc::default();
        let shutdown: Arc<AtomicBool> = Arc::default();
        let (respond, received, stopping) = (Arc::new(respond), recorded.clone(), shutdown.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                received.lock().expect("the received requests").connections += 1;
                let (respond, received) = (respond.clone(), received.clone());
                thread::spawn(move || serve(&stream, &*respond, &received));
            }
        });
        Self {
            address,
            recorded,
            shutdown,
        }
    }

    /// Starts a server that always sends this response.
    pub fn always(response: Response) -> Self {
        Self::start(move |_| response.clone())
    }

    /// Starts an application that returns the request that it received. `/status/500` gets that status.
    pub fn application() -> Self {
        Self::start(|request| {
            let status = request.target.strip_prefix("/status/");
            Response {
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
        self.recorded
            .lock()
            .expect("the received requests")
            .requests
            .clone()
    }

    pub fn connections(&self) -> usize {
        self.recorded
            .lock()
            .expect("the received requests")
            .connections
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, respond: &dyn Fn(&Request) -> Response, recorded: &Mutex<Recorded>) {
    let timeout = Some(Duration::from_secs(60));
    stream.set_read_timeout(timeout).expect("a timeout");
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let response = respond(&request);
        let is_head = request.method == "HEAD";
        recorded
            .lock()
            .expect("the received requests")
            .requests
            .push(request);
        let mut header_section = format!("HTTP/1.1 {} Scripted\r\n", response.status);
        for (name, value) in &response.headers {
            header_section += &format!("{name}: {value}\r\n");
        }
        header_section += &format!("content-length: {}\r\n\r\n", response.body.len());
        let body = if is_head { "" } else { &response.body };
        let mut writer = stream;
        if writer
            .write_all((header_section + body).as_bytes())
            .is_err()
        {
            return;
        }
    }
}

/// Reads the next request. Returns `None` at the end of the connection.
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

    /// Returns the request as JSON. Each header is a list, as it may occur several times.
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
