//! TLS of the service: versions, client addresses, replacement of the certificate, and limits.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use crate::{
    raw::{assert_last_problem, connect, drip, read_response, read_to_end},
    support::{
        Program,
        program::{QUICK, assert_fails_with_one_line, run_in},
        skip,
    },
};

pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A folder with a certificate authority, and certificates that it has signed.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    /// Creates the files, or skips the test and returns `None` if `openssl` is not installed.
    pub fn make() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            skip("openssl is not installed");
            return None;
        }
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(
            files.path("names"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        )
        .unwrap();
        files.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        files.sign("a");
        Some(files)
    }

    fn sign(&self, name: &str) {
        self.openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"));
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        let command = openssl
            .args(arguments.split(' '))
            .current_dir(self.0.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Copies a certificate and its key to the files that the service reads.
    fn install(&self, name: &str) {
        fs::copy(self.path(&format!("{name}.pem")), self.path("cert.pem")).unwrap();
        fs::copy(self.path(&format!("{name}.key")), self.path("cert.key")).unwrap();
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(name)).unwrap()
    }

    pub fn start(&self, more: &[(&str, &str)]) -> Program {
        self.install("a");
        let (certificate, key) = (self.path("cert.pem"), self.path("cert.key"));
        let settings = [
            ("TLS_CERT", certificate.to_str().unwrap()),
            ("TLS_KEY", key.to_str().unwrap()),
        ];
        Program::start(self.0.path(), &[&QUICK[..], &settings, more].concat())
    }

    pub fn connect(&self, program: &Program) -> Stream {
        self.connect_with(program, &[&TLS13, &TLS12])
    }

    fn connect_with(
        &self,
        program: &Program,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Stream {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate("ca.pem")).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, connect(program))
    }
}

/// Sends a request, and returns the response.
pub(super) fn send_request(stream: &mut Stream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let (mut response, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut part).unwrap();
        response.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&response);
        if let Some((headers, body)) = text.split_once("\r\n\r\n") {
            let length = headers
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap()) {
                return text.into_owned();
            }
        }
        assert!(count > 0, "ended after {text:?}");
    }
}

fn post(path: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{more}\
         content-length: {length}\r\n\r\n{body}"
    )
}

fn member(response: &str, name: &str) -> String {
    let body = response.split_once("\r\n\r\n").expect(response).1;
    let body: serde_json::Value = serde_json::from_str(body).expect(response);
    body[name].as_str().expect(response).to_owned()
}

pub(super) const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

#[test]
fn tls_1_2_and_1_3_are_served_and_plain_http_is_not() {
    let Some(files) = Files::make() else { return };
    let program = files.start(&[]);
    assert!(program.base.starts_with("https://"), "{}", program.base);
    for (version, number) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut stream = files.connect_with(&program, &[version]);
        assert!(send_request(&mut stream, LIVE).starts_with("HTTP/1.1 200"));
        assert_eq!(stream.conn.protocol_version(), Some(number));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    let mut plain = connect(&program);
    plain.write_all(LIVE.as_bytes()).unwrap();
    assert!(!read_to_end(&mut plain).contains("HTTP"));
    let log = program.stop();
    let key = fs::read_to_string(files.path("a.key")).unwrap();
    for line in key.lines() {
        assert!(!log.contains(line), "{log}");
    }
}

#[test]
fn client_address_is_known_over_tls() {
    let Some(files) = Files::make() else { return };
    let program = files.start(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let mut stream = files.connect(&program);
    let credentials = r#"{"email":"ada@example.com","password":"correct horse battery staple"}"#;
    send_request(&mut stream, &post("/auth/signup", "", credentials));
    let session = send_request(&mut stream, &post("/auth/login", "", credentials));
    let token = format!(
        "authorization: Bearer {}\r\n",
        member(&session, "access_token")
    );
    let mut get = |allowed: &str, more: &str| {
        let settings = format!(r#"{{"ip_allowlist":["{allowed}"]}}"#);
        let key = send_request(&mut stream, &post("/api-keys", &token, &settings));
        let key = member(&key, "api_key");
        let get = format!("GET /protected HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n{more}\r\n");
        send_request(&mut stream, &get)
    };
    let forwarded = "x-forwarded-for: 198.51.100.7\r\n";
    assert!(get("127.0.0.1", "").starts_with("HTTP/1.1 200"));
    assert!(get("127.0.0.1", forwarded).starts_with("HTTP/1.1 403"));
    assert!(get("198.51.100.7", forwarded).starts_with("HTTP/1.1 200"));
}

#[test]
fn sighup_replaces_the_certificate_and_keeps_connections() {
    let Some(files) = Files::make() else { return };
    files.sign("b");
    let program = files.start(&[]);
    let mut kept = files.connect(&program);
    assert!(send_request(&mut kept, LIVE).starts_with("HTTP/1.1 200"));
    let shown = |stream: &Stream| stream.conn.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown(&kept), files.certificate("a.pem"));

    files.install("b");
    program.signal("HUP");
    program.await_line("reloaded TLS_CERT and TLS_KEY");
    let mut fresh = files.connect(&program);
    assert!(send_request(&mut fresh, LIVE).starts_with("HTTP/1.1 200"));
    assert_eq!(shown(&fresh), files.certificate("b.pem"));
    assert!(send_request(&mut kept, LIVE).starts_with("HTTP/1.1 200"));

    // An unusable certificate changes nothing.
    fs::copy(files.path("a.pem"), files.path("cert.pem")).unwrap();
    program.signal("HUP");
    program.await_line("the previous certificate stays in use");
    let mut fresh = files.connect(&program);
    assert!(send_request(&mut fresh, LIVE).starts_with("HTTP/1.1 200"));
    assert_eq!(shown(&fresh), files.certificate("b.pem"));
    assert!(send_request(&mut kept, LIVE).starts_with("HTTP/1.1 200"));
    assert!(
        program
            .stop()
            .contains("ERROR failed to reload TLS: TLS_KEY")
    );
}

#[test]
fn unusable_tls_files_stop_the_start_with_one_line() {
    let Some(files) = Files::make() else { return };
    files.sign("b");
    fs::write(files.path("text"), "hunter22").unwrap();
    let assert_start_fails = |certificate: &str, key: &str, parts: &[&str]| {
        let text = |name: &str| files.path(name).to_str().unwrap().to_owned();
        let (certificate, key) = (text(certificate), text(key));
        let mut settings = QUICK.to_vec();
        settings.extend([("TLS_CERT", &*certificate), ("TLS_KEY", &*key)]);
        settings.retain(|(_, value)| !value.ends_with("unset"));
        let output = run_in(files.0.path(), &[], &settings);
        assert_fails_with_one_line(&output, 2, parts);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !error.contains("hunter22") && !error.contains("PRIVATE"),
            "{error}"
        );
    };
    assert_start_fails("a.pem", "unset", &["TLS_KEY", "missing", "TLS_CERT"]);
    assert_start_fails("unset", "a.key", &["TLS_CERT", "missing", "TLS_KEY"]);
    assert_start_fails("nowhere", "a.key", &["TLS_CERT", "nowhere"]);
    assert_start_fails("a.pem", "nowhere", &["TLS_KEY", "nowhere"]);
    assert_start_fails("text", "a.key", &["TLS_CERT", "PEM"]);
    assert_start_fails("a.pem", "text", &["TLS_KEY", "PEM"]);
    assert_start_fails("a.key", "a.key", &["TLS_CERT", "PEM"]);
    assert_start_fails("a.pem", "b.key", &["TLS_KEY", "TLS_CERT"]);
    assert!(Path::new(&files.path("a.pem")).exists());
}

#[test]
fn timeouts_and_size_limits_hold_over_tls() {
    let Some(files) = Files::make() else { return };
    let program = files.start(&[
        ("HEAD_SECONDS", "1"),
        ("KEEP_ALIVE_SECONDS", "600"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "2"),
    ]);
    // A missing and an incomplete handshake.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc";
    assert_eq!(read_to_end(&mut connect(&program)), "");
    assert_eq!(drip(connect(&program), hello, b"\x01"), "");
    let mut slow = files.connect(&program);
    slow.write_all(b"GET / HTTP/1.1\r\nx:").unwrap();
    let mut reply = String::new();
    let _ = slow.read_to_string(&mut reply);
    assert_last_problem(&reply, 408, "request_timeout");
    drop(slow);

    let mut large = files.connect(&program);
    large
        .write_all(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(33 * 1024)).as_bytes())
        .unwrap();
    let mut reply = String::new();
    let _ = large.read_to_string(&mut reply);
    assert_last_problem(&reply, 431, "headers_too_large");
    drop(large);

    let mut open = [files.connect(&program), files.connect(&program)];
    for stream in &mut open {
        assert!(send_request(stream, LIVE).starts_with("HTTP/1.1 200"));
    }
    // A connection over the limit is closed without a response: before the handshake, the client could not read it.
    let mut third = connect(&program);
    assert!(read_response(&mut third).is_err());
    for stream in &mut open {
        assert!(send_request(stream, LIVE).starts_with("HTTP/1.1 200"));
    }
}
