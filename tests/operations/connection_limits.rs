//! How many connections there may be.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    raw::{PATIENCE, address, assert_last_problem, connect, read_answer, read_to_end},
    support::{Program, program::QUICK},
};

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

fn start(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Program {
    Program::start(folder.path(), &[&QUICK[..], more].concat())
}

/// Whether a request on it is served; if not, it is told why not.
fn is_served(stream: &mut TcpStream) -> bool {
    let _ = stream.write_all(LIVE);
    match read_answer(stream) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => true,
        Ok(answer) => {
            assert_last_problem(&answer, 503, "unavailable");
            assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
            assert_eq!(read_to_end(stream), "");
            false
        }
        // Refused before the request was sent, which then resets the connection.
        Err(_) => false,
    }
}

fn connect_from(program: &Program, source: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = format!("{source}:0").parse().unwrap();
    let target: SocketAddr = address(program).parse().unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&target.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn one_address_has_so_many_connections_and_others_have_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[("MAX_CONNECTIONS_PER_ADDRESS", "3")]);
    let mut open: Vec<_> = (0..3).map(|_| connect(&program)).collect();
    assert!(open.iter_mut().all(is_served));
    // It is told without having asked, and before it is waited for.
    let refused = read_to_end(&mut connect(&program));
    assert_last_problem(&refused, 503, "unavailable");
    assert!(!is_served(&mut connect(&program)));
    assert!(is_served(&mut connect_from(&program, "127.0.0.2")));
    assert!(open.iter_mut().all(is_served));
    drop(open.pop());
    let deadline = Instant::now() + PATIENCE;
    while !is_served(&mut connect(&program)) {
        assert!(Instant::now() < deadline, "its place is not given back");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_trusted_proxy_has_as_many_as_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(
        &folder,
        &[
            ("MAX_CONNECTIONS_PER_ADDRESS", "1"),
            ("MAX_CONNECTIONS", "20"),
            ("TRUSTED_PROXIES", "127.0.0.1"),
        ],
    );
    let mut open: Vec<_> = (0..20).map(|_| connect(&program)).collect();
    assert!(open.iter_mut().all(is_served));
    assert!(!is_served(&mut connect(&program)));
    assert!(!is_served(&mut connect_from(&program, "127.0.0.2")));
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_can_be_and_reckoned_with() {
    let folder = tempfile::tempdir().unwrap();
    let start = |limit: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("ulimit {limit} && exec \"$0\"")])
            .arg(env!("CARGO_BIN_EXE_latchkey"))
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(QUICK);
        Program::listening(&mut shell)
    };
    let program = start("-S -n 100");
    let mut open: Vec<_> = (0..300).map(|_| connect(&program)).collect();
    assert!(open.iter_mut().all(is_served));
    let log = program.stop();
    assert!(!log.contains("MAX_CONNECTIONS"), "{log}");

    let program = start("-n 300");
    program.await_line("MAX_CONNECTIONS is 10000");
    let mut open: Vec<_> = (0..300).map(|_| connect(&program)).collect();
    let served = open
        .iter_mut()
        .filter_map(|stream| is_served(stream).then_some(()))
        .count();
    assert!((50..300).contains(&served), "{served}");
}
