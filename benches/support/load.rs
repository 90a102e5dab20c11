//! Load generator: sends requests without pauses over keep-alive connections.
//!
//! It shares the machine with the server, so it must use little CPU. Each of a few threads has several connections. A
//! thread writes a request to all of them, then reads the responses from all of them. So there is no context switch per
//! response, and nothing is allocated.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) const CONNECTIONS: usize = 64;
const THREADS: usize = 2;
const EACH: usize = CONNECTIONS / THREADS;
pub(crate) const ROUND: Duration = Duration::from_millis(500);
pub(crate) const ROUNDS: usize = 11;

/// Size of the buffer in bytes. The longest response, with 100 keys, fits.
const BUFFER: usize = 128 * 1024;

/// Requests that are sent in a loop, and the expected status.
pub(crate) struct Load {
    address: String,
    requests: Vec<String>,
    status_line: String,
    /// Index of each thread's next request. Each thread cycles through all requests, and continues in the next round
    /// where it stopped.
    next: [AtomicUsize; THREADS],
}

impl Load {
    pub(crate) fn new(address: &str, status: u16, requests: Vec<String>) -> Self {
        let start = |thread| AtomicUsize::new(requests.len() * thread / THREADS);
        Self {
            address: address.to_owned(),
            status_line: format!("HTTP/1.1 {status} "),
            next: std::array::from_fn(start),
            requests,
        }
    }

    /// Sends each request once or a few times.
    pub(crate) fn send_all(&self) {
        let enough = self.requests.len().div_ceil(THREADS);
        run([self; THREADS], |sent, _| sent < enough);
    }

    /// Sends requests while `continues` returns true for the number of responses and the elapsed time. Returns the
    /// requests per second.
    fn drive(
        &self,
        thread: usize,
        start: &Barrier,
        continues: impl Fn(usize, Duration) -> bool,
    ) -> f64 {
        let mut reader = Reader::new(&self.status_line);
        let mut connections: Vec<_> = (0..EACH).map(|_| connect(&self.address)).collect();
        let mut next = self.next[thread].load(Ordering::Relaxed);
        let mut lap = || {
            for connection in &mut connections {
                let request = &self.requests[next % self.requests.len()];
                connection.write_all(request.as_bytes()).unwrap();
                next += 1;
            }
            for connection in &mut connections {
                reader.read(connection);
            }
        };
        lap();
        start.wait();
        let (started, mut responses) = (Instant::now(), 0);
        while continues(responses, started.elapsed()) {
            lap();
            responses += EACH;
        }
        let elapsed = started.elapsed();
        self.next[thread].store(next, Ordering::Relaxed);
        responses as f64 / elapsed.as_secs_f64()
    }
}

/// Measures requests per second of each load: the median over all rounds, and the median of the ratios to the first
/// load in the same round.
///
/// The rounds are short and alternate between the loads, so that other activity of the machine affects all of them.
pub(crate) fn rates<const N: usize>(loads: [&Load; N]) -> [Rate; N] {
    let sum = |load| round([load; THREADS]).iter().sum();
    in_turns(|| loads.map(sum))
}

/// Measures requests per second of `load` on half of the connections: while the other half also sends `load`, and while
/// it sends `other`.
pub(crate) fn half_beside(load: &Load, other: &Load) -> [Rate; 2] {
    in_turns(|| [load, other].map(|other| round([load, other])[0]))
}

/// Result of a load.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    /// Median of the requests per second.
    pub(crate) per_second: f64,
    /// Median of the ratios to the first load.
    pub(crate) of_first: f64,
}

fn in_turns<const N: usize>(measure: impl Fn() -> [f64; N]) -> [Rate; N] {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| measure()).collect();
    let median = |figure: &dyn Fn(&[f64; N]) -> f64| {
        let mut all: Vec<_> = rounds.iter().map(figure).collect();
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    };
    std::array::from_fn(|load| Rate {
        per_second: median(&|round| round[load]),
        of_first: median(&|round| round[load] / round[0]),
    })
}

fn round(loads: [&Load; THREADS]) -> [f64; THREADS] {
    run(loads, |_, elapsed| elapsed < ROUND)
}

fn run(
    loads: [&Load; THREADS],
    continues: impl Fn(usize, Duration) -> bool + Sync,
) -> [f64; THREADS] {
    let start = Barrier::new(THREADS);
    let (start, continues) = (&start, &continues);
    thread::scope(|scope| {
        let mut number = 0;
        let threads = loads.map(|load| {
            let thread = number;
            number += 1;
            scope.spawn(move || load.drive(thread, start, continues))
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reader of responses. It parses only the status line and the content length.
struct Reader<'a> {
    status_line: &'a str,
    buffer: Vec<u8>,
    layout: Layout,
}

/// Offsets in a response. Responses to one load have the same offsets, so they need not be searched each time.
#[derive(Default)]
struct Layout {
    /// Offset of the value of `content-length`.
    length: usize,
    /// Offset of the body.
    body: usize,
}

const LENGTH: &[u8] = b"content-length: ";
const END_OF_HEADERS: &[u8] = b"\r\n\r\n";

impl<'a> Reader<'a> {
    fn new(status_line: &'a str) -> Self {
        Self {
            status_line,
            buffer: vec![0; BUFFER],
            layout: Layout::default(),
        }
    }

    fn read(&mut self, stream: &mut TcpStream) {
        let mut filled = 0;
        loop {
            let read = stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
            let response = &self.buffer[..filled];
            if !self.layout.is_of(response) {
                match Layout::search(response) {
                    Some(layout) => self.layout = layout,
                    None => continue,
                }
            }
            if filled >= self.layout.end(response) {
                let text = || String::from_utf8_lossy(response);
                let expected = response.starts_with(self.status_line.as_bytes());
                assert!(expected, "not {}: {}", self.status_line, text());
                return;
            }
        }
    }
}

impl Layout {
    fn is_of(&self, response: &[u8]) -> bool {
        let precedes = |text: &[u8], offset: usize| {
            let start = offset.checked_sub(text.len());
            let before = start.and_then(|start| response.get(start..offset));
            before.is_some_and(|before| before.eq_ignore_ascii_case(text))
        };
        precedes(LENGTH, self.length) && precedes(END_OF_HEADERS, self.body)
    }

    fn search(response: &[u8]) -> Option<Self> {
        let after = |text: &[u8]| {
            let mut windows = response.windows(text.len());
            let offset = windows.position(|window| window.eq_ignore_ascii_case(text));
            offset.map(|offset| offset + text.len())
        };
        Some(Self {
            body: after(END_OF_HEADERS)?,
            // Every response of the service has this header, so its first occurrence is not in the body.
            length: after(LENGTH)?,
        })
    }

    /// Returns the offset of the end of the response.
    fn end(&self, response: &[u8]) -> usize {
        let digits = response[self.length..].iter().map_while(|byte| match byte {
            b'0'..=b'9' => Some(usize::from(byte - b'0')),
            _ => None,
        });
        self.body + digits.fold(0, |length, digit| 10 * length + digit)
    }
}
