//! Pipelined requests: responses come in order, requests after the last one are not executed, and unread responses do
//! not accumulate.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use socket2::{Domain, Socket, Type};

use crate::{
    memory::resident,
    raw::{TIMEOUT, address, connect, read_to_end},
    support::{Program, program::QUICK},
};

const JSON: &str = "content-type: application/json\r\n";

fn start(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Program {
    Program::start(folder.path(), &[&QUICK[..], more].concat())
}

#[test]
fn request_after_the_last_one_of_a_connection_is_not_executed() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[]);
    let user = program.client().sign_up("ada@example.com");
    let token = user.header("authorization");
    let create = format!(
        "POST /api-keys HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-length: 0\r\n\r\n"
    );
    for last in [
        "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\nhost: x\r\nConnection: foo, Close\r\n\r\n".into(),
        "GET /health/live HTTP/1.0\r\nhost: x\r\n\r\n".into(),
        // With a body, and with a body of which the service does not read the rest.
        format!(
            "POST /auth/login HTTP/1.1\r\nhost: x\r\n{JSON}connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
        ),
        "GET /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab".into(),
        "NO HTTP\r\n\r\n".into(),
    ] {
        // In one write, and in two.
        for cut in [0, last.len()] {
            let mut stream = connect(&program);
            let all = format!("{last}{create}");
            let (first, second) = all.split_at(cut);
            stream.write_all(first.as_bytes()).unwrap();
            stream.write_all(second.as_bytes()).unwrap();
            let replies = read_to_end(&mut stream);
            assert_eq!(
                replies.matches("\r\ndate: ").count(),
                1,
                "{last}: {replies}"
            );
            assert_eq!(user.get("/api-keys").body, "[]", "{last}");
        }
    }
    // Proves that the request creates a key if it is sent alone.
    let mut stream = connect(&program);
    stream.write_all(create.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let reply = read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
}

#[test]
fn pipelined_requests_get_responses_in_order_however_the_bytes_are_split() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[]);
    let login = format!("POST /auth/login HTTP/1.1\r\nhost: x\r\n{JSON}");
    let all = [
        format!("{login}content-length: 2\r\n\r\n{{}}"),
        "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        format!("{login}transfer-encoding: chunked\r\n\r\n1;x=\"y\"\r\n{{\r\n1\r\n}}\r\n0\r\nx: y\r\n\r\n"),
        // The body has arrived, and the service does not read it.
        format!("POST /nothing HTTP/1.1\r\nhost: x\r\n{JSON}content-length: 2\r\n\r\n{{}}"),
        "\r\nDELETE /health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        format!("{login}content-length: 5\r\n\r\n{{\"a\"}}"),
        "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    ]
    .concat();
    let whole = all.len();
    for piece in [1, 7, 61, whole] {
        let mut stream = connect(&program);
        stream.set_nodelay(true).unwrap();
        for part in all.as_bytes().chunks(piece) {
            stream.write_all(part).unwrap();
        }
        let replies = read_to_end(&mut stream);
        let statuses: Vec<_> = replies
            .match_indices("HTTP/1.1 ")
            .map(|(at, _)| &replies[at + 9..at + 12])
            .collect();
        let expected = ["422", "200", "422", "404", "405", "400", "200"];
        // Byte by byte, the response to the unread body is sent before the body has arrived, and is the last one.
        let expected = match statuses.len() {
            4 if piece < whole => &expected[..4],
            _ => &expected[..],
        };
        assert_eq!(statuses, expected, "{piece}: {replies}");
    }
}

/// Opens a connection with a small receive buffer, sends the requests, and does not read the responses.
fn connect_without_reading(program: &Program, sent: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let target: SocketAddr = address(program).parse().unwrap();
    socket.connect(&target.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(sent).unwrap();
    stream
}

#[test]
fn unread_responses_do_not_accumulate_and_other_clients_are_served() {
    const CONNECTIONS: usize = 100;
    const REQUESTS: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder, &[("WORKERS", "1"), ("ANSWER_SECONDS", "60")]);
    let client = program.client();
    for (path, status) in [
        ("/openapi.json", "200"),
        ("/nothing", "404"),
        ("/docs", "307"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        // Warms up: documents are created once.
        connect(&program).write_all(request.as_bytes()).unwrap();
        assert_eq!(client.get(path).status.to_string(), status);
        let before = resident(&program);
        let last = request.replace("host", "connection: close\r\nhost");
        let sent = [request.repeat(REQUESTS - 1), last].concat();
        let mut streams: Vec<_> = (0..CONNECTIONS)
            .map(|_| connect_without_reading(&program, sent.as_bytes()))
            .collect();
        // Each connection has received a part of a response, so the worker has read its requests.
        for stream in &streams {
            assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
        }
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(client.get("/health/live").status, 200);
            assert!(started.elapsed() < TIMEOUT / 10);
        }
        let grown = resident(&program).saturating_sub(before);
        // About 64 KiB of unsent responses, as much of requests, and the connection itself.
        assert!(grown < 160 * CONNECTIONS as u64, "{path}: {grown} KiB");
        // Nothing is lost.
        let mut replies = Vec::new();
        streams[0].read_to_end(&mut replies).unwrap();
        let start = format!("HTTP/1.1 {status} ");
        let count = replies
            .windows(start.len())
            .filter(|part| *part == start.as_bytes())
            .count();
        assert_eq!(count, REQUESTS, "{path}");
    }
}
