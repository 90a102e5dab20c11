//! Memory of the process, during and after a peak of connections.

use std::{
    fs,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    raw::{TIMEOUT, connect, read_response},
    support::{Program, program::QUICK},
};

/// Returns the resident memory of the program, in KiB.
pub fn resident(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse().unwrap()
}

#[test]
fn memory_of_closed_connections_is_returned_to_the_system() {
    const CONNECTIONS: usize = 3000;
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let more = [("MAX_CONNECTIONS_PER_ADDRESS", "4000")];
    let program = Program::start(folder.path(), &[&QUICK[..], &more].concat());
    let use_many = || {
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect(&program)).collect();
        for stream in &mut streams {
            let live = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(live).unwrap();
            assert!(read_response(stream).unwrap().starts_with("HTTP/1.1 200"));
        }
        resident(&program)
    };
    let before = resident(&program);
    let peak = use_many();
    // Each connection uses at least the two buffers of the HTTP library.
    assert!(
        peak > before + 10 * CONNECTIONS as u64,
        "{before} {peak} KiB"
    );
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let after = resident(&program);
        if after < before + (peak - before) / 3 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{before}, {peak}, then {after} KiB"
        );
        thread::sleep(Duration::from_millis(200));
    }
}
