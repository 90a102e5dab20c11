//! The memory of the process, in a peak and after it.

use std::{
    fs,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    raw::{PATIENCE, connect, read_answer},
    support::{Program, program::QUICK},
};

/// The resident memory of the program, in KiB.
pub fn resident(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse().unwrap()
}

#[test]
fn memory_of_connections_that_are_gone_is_given_back() {
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
            assert!(read_answer(stream).unwrap().starts_with("HTTP/1.1 200"));
        }
        resident(&program)
    };
    let before = resident(&program);
    let peak = use_many();
    // Of each, the two buffers of the HTTP library at least.
    assert!(
        peak > before + 10 * CONNECTIONS as u64,
        "{before} {peak} KiB"
    );
    let deadline = Instant::now() + PATIENCE;
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
