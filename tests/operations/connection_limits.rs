//! Limits of connections, in total and per address.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    raw::{TIMEOUT, address, assert_last_problem, connect, read_response, read_to_end},
    support::{Program, program::QUICK},
};

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

fn start(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Program {
    Program::start(folder.path(), &[&QUICK[..], more].concat())
}

/// Returns whether a request on the connection is served. Otherwise asserts that the response is a 503.
fn is_served(stream: &mut TcpStream) -> bool {
    let _ = stream.write_all(LIVE);
    match read_response(stream) {
        Ok(response) if response.starts_with("HTTP/1.1 200") => true,
        Ok(response) => {
            assert_last_problem(&response, 503, "unavailable");
            assert!(response.contains("\r\nretry-after: 1\r\n"), "{response}");
            assert_eq!(read_to_end(stream), "");
            false
        }
        // The connection was rejected before the request was sent, and sending it has reset the connection.
        Err(_) => false,
    }
}

fn connect_from(program: &Program, source: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = format!("{source}:0").parse().unwrap();
    let target: SocketAddr = address(program).parse().unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&target.into()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.into()
}

#[test]
fn connection_limit_of_one_address_does_not_affect_other_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[("MAX_CONNECTIONS_PER_ADDRESS", "3")]);
    let mut open: Vec<_> = (0..3).map(|_| connect(&program)).collect();
    assert!(open.iter_mut().all(is_served));
    // The rejection arrives without a request, and before the service waits for one.
    let rejected = read_to_end(&mut connect(&program));
    assert_last_problem(&rejected, 503, "unavailable");
    assert!(!is_served(&mut connect(&program)));
    assert!(is_served(&mut connect_from(&program, "127.0.0.2")));
    assert!(open.iter_mut().all(is_served));
    drop(open.pop());
    let deadline = Instant::now() + TIMEOUT;
    while !is_served(&mut connect(&program)) {
        assert!(
            Instant::now() < deadline,
            "the closed connection is still counted"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn trusted_proxy_has_no_connection_limit_per_address() {
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
fn open_file_limit_is_raised_and_bounds_the_connections() {
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
