//! nginx with keys in a map, as a baseline: a check that knows only whether a key is valid.

use std::{
    fmt::Write as _,
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::program::free_address;

/// Running nginx. It is stopped on drop.
pub(crate) struct Nginx {
    pub(crate) address: String,
    master: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx, which responds with `body` at `/protected` to requests with one of the keys. Returns `None` if it
    /// is not installed.
    pub(crate) fn start(keys: &[String], body: &str) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let configuration = configuration(&address, keys, body);
        fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
        let mut command = Command::new(program);
        command
            .args(["-e", "stderr", "-p", ".", "-c", "nginx.conf"])
            .current_dir(&folder)
            .stdin(Stdio::null());
        let mut nginx = Self {
            master: command.spawn().unwrap(),
            address,
            _folder: folder,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&nginx.address).is_err() {
            assert!(
                nginx.master.try_wait().unwrap().is_none(),
                "nginx has exited"
            );
            assert!(Instant::now() < deadline, "nginx does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGKILL would leave its workers behind.
        let pid = self.master.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let _ = self.master.wait();
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Debian installs nginx in a directory that is not in every user's PATH.
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("nginx"))
        .find(|program| program.is_file())
}

/// Returns the configuration. `reuseport` distributes the connections among the workers; without it one worker may get
/// most of them.
fn configuration(address: &str, keys: &[String], body: &str) -> String {
    let mut map = String::new();
    for key in keys {
        writeln!(map, "        {key} 1;").unwrap();
    }
    format!(
        r#"daemon off;
pid nginx.pid;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
    default_type application/json;
    map_hash_max_size 262144;
    map_hash_bucket_size 256;
    map $http_x_api_key $ok {{
        default 0;
{map}    }}
    server {{
        listen {address} reuseport;
        location = /protected {{
            if ($ok = 0) {{ return 401 '{{"status":401}}'; }}
            return 200 '{body}';
        }}
    }}
}}
"#
    )
}
