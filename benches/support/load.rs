//! Requests without pause over keep-alive connections, by a client that costs little: it shares the
//! machine with what it measures.
//!
//! A few threads have some connections each. They write to all of theirs, then read from all of them: no
//! thread switches for each answer, and nothing is allocated.

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

/// Room for the longest answer: that about a hundred keys.
const BUFFER: usize = 128 * 1024;

/// What is asked, over and over, and what the answer must be.
pub(crate) struct Load {
    address: String,
    requests: Vec<String>,
    status_line: String,
    /// Which request is the next one, of each thread: each goes through all of them, and goes on in the
    /// next round where it was.
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

    /// Sends and reads while `go_on` says so of the number of answers and the time that they took.
    /// Answers requests per second.
    fn drive(
        &self,
        thread: usize,
        together: &Barrier,
        go_on: impl Fn(usize, Duration) -> bool,
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
        together.wait();
        let (started, mut answered) = (Instant::now(), 0);
        while go_on(answered, started.elapsed()) {
            lap();
            answered += EACH;
        }
        let took = started.elapsed();
        self.next[thread].store(next, Ordering::Relaxed);
        answered as f64 / took.as_secs_f64()
    }
}

/// Requests per second of each load: the median, and the median of what each round's is of the first
/// load's in the same round. The rounds are short and the loads take turns in each, so that what else the
/// machine does meets all of them.
pub(crate) fn rates<const N: usize>(loads: [&Load; N]) -> [Rate; N] {
    let sum = |load| round([load; THREADS]).iter().sum();
    in_turns(|| loads.map(sum))
}

/// The same of one half of the connections: while the other half sends the same, and while it sends
/// `other`.
pub(crate) fn half_beside(load: &Load, other: &Load) -> [Rate; 2] {
    in_turns(|| [load, other].map(|other| round([load, other])[0]))
}

/// What was measured of a load.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
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
    run(loads, |_, took| took < ROUND)
}

fn run(loads: [&Load; THREADS], go_on: impl Fn(usize, Duration) -> bool + Sync) -> [f64; THREADS] {
    let together = Barrier::new(THREADS);
    let (together, go_on) = (&together, &go_on);
    thread::scope(|scope| {
        let mut number = 0;
        let threads = loads.map(|load| {
            let thread = number;
            number += 1;
            scope.spawn(move || load.drive(thread, together, go_on))
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads answers, of which it looks at the status and the length only.
struct Reader<'a> {
    status_line: &'a str,
    buffer: Vec<u8>,
    layout: Layout,
}

/// Where things are in an answer. Those to one load look alike, so they need not be searched each time.
#[derive(Default)]
struct Layout {
    /// Where the body's length stands.
    length: usize,
    /// Where the body is.
    body: usize,
}

const LENGTH: &[u8] = b"content-length: ";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

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
            let answer = &self.buffer[..filled];
            if !self.layout.is_of(answer) {
                match Layout::search(answer) {
                    Some(layout) => self.layout = layout,
                    None => continue,
                }
            }
            if filled >= self.layout.end(answer) {
                let text = || String::from_utf8_lossy(answer);
                let expected = answer.starts_with(self.status_line.as_bytes());
                assert!(expected, "not {}: {}", self.status_line, text());
                return;
            }
        }
    }
}

impl Layout {
    fn is_of(&self, answer: &[u8]) -> bool {
        let stands_before = |text: &[u8], place: usize| {
            let start = place.checked_sub(text.len());
            let before = start.and_then(|start| answer.get(start..place));
            before.is_some_and(|before| before.eq_ignore_ascii_case(text))
        };
        stands_before(LENGTH, self.length) && stands_before(END_OF_HEAD, self.body)
    }

    fn search(answer: &[u8]) -> Option<Self> {
        let after = |text: &[u8]| {
            let mut places = answer.windows(text.len());
            let place = places.position(|found| found.eq_ignore_ascii_case(text));
            place.map(|place| place + text.len())
        };
        Some(Self {
            body: after(END_OF_HEAD)?,
            // Every answer of ours has it, and it stands before the body.
            length: after(LENGTH)?,
        })
    }

    /// Where the answer ends.
    fn end(&self, answer: &[u8]) -> usize {
        let digits = answer[self.length..].iter().map_while(|byte| match byte {
            b'0'..=b'9' => Some(usize::from(byte - b'0')),
            _ => None,
        });
        self.body + digits.fold(0, |length, digit| 10 * length + digit)
    }
}
