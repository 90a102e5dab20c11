//! `latchkey health`, for containers that have no other HTTP client.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Program,
    program::{QUICK, assert_refused, run},
};

fn port_of(program: &Program) -> String {
    program.base.rsplit(':').next().unwrap().to_owned()
}

#[test]
fn a_server_that_is_well_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = QUICK.to_vec();
    settings.push(("HOST", "0.0.0.0"));
    let program = Program::start(folder.path(), &settings);
    let port = port_of(&program);
    let url = format!("http://localhost:{port}");
    for (arguments, settings) in [
        (vec!["health"], vec![("HOST", "0.0.0.0"), ("PORT", &*port)]),
        (vec!["health"], vec![("PORT", &*port)]),
        (vec!["health", "--live"], vec![("PORT", &*port)]),
        (vec!["health", "--port", &port], vec![]),
        (vec!["health", "--url", &url], vec![]),
        // What else is in the server's environment is not its business.
        (
            vec!["health"],
            vec![("PORT", &*port), ("JWT_SECRET", "x"), ("LOG", "nonsense")],
        ),
    ] {
        let output = run(&arguments, &settings);
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.lines().count(), 1, "{printed}");
        assert!(printed.ends_with(" answers 200\n"), "{printed}");
    }
    program.stop();
    let output = run(&["health"], &[("PORT", &port)]);
    assert_refused(&output, 1, &[&port, "does not answer"]);
}

/// Accepts one connection, reads its request and does this with it.
fn one_answer(
    answer: impl FnOnce(TcpStream) + Send + 'static,
) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).unwrap();
        answer(stream);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    });
    (port, served)
}

#[test]
fn any_other_answer_is_a_failure() {
    for (answer, said) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
        ("HTTP/1.1 307 Temporary Redirect\r\n\r\n", "307"),
        ("HTTP/1.1 200", "200"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        ("", "not HTTP"),
    ] {
        let (port, served) = one_answer(move |mut stream| {
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let output = run(&["health"], &[("PORT", &port)]);
        if answer.ends_with("200") {
            assert!(output.status.success(), "{output:?}");
        } else {
            assert_refused(&output, 1, &[said]);
        }
        let request = served.join().unwrap();
        assert!(request.starts_with("GET /health/ready HTTP/1.1\r\n"));
        assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")));
    }
}

#[test]
fn who_does_not_answer_in_time_has_failed() {
    let hangs = |mut stream: TcpStream| {
        // Until the other side gives up.
        let _ = stream.read(&mut [0; 1]);
    };
    let drips = |mut stream: TcpStream| {
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    };
    for port in [one_answer(hangs).0, one_answer(drips).0] {
        let began = Instant::now();
        let arguments = ["health", "--timeout-seconds", "1"];
        assert_refused(
            &run(&arguments, &[("PORT", &port)]),
            1,
            &[&port, "timed out"],
        );
        assert!(began.elapsed() < Duration::from_secs(25));
    }
}

#[test]
fn a_bad_setting_is_said_in_one_line() {
    assert_refused(
        &run(&["health", "--url", "x"], &[]),
        2,
        &["--url", "http://"],
    );
    assert_refused(&run(&["health"], &[("PORT", "0")]), 2, &["PORT", "--url"]);
    assert_refused(&run(&["health"], &[("PORT", "x")]), 2, &["PORT"]);
    let too_long = ["health", "--timeout-seconds", "301"];
    assert_refused(&run(&too_long, &[]), 2, &["--timeout-seconds", "300"]);
}
