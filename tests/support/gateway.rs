//! Runs a gateway such as nginx, with its configuration in a temporary folder.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, skip};

/// Command line of nginx.
pub const NGINX: Runner = Runner {
    program: "nginx",
    arguments: &[
        "-e",
        "stderr",
        "-p",
        ".",
        "-c",
        "recipe",
        "-g",
        "daemon off;",
    ],
};

/// Command line that runs a gateway on the file `recipe` in the working folder.
pub struct Runner {
    pub program: &'static str,
    pub arguments: &'static [&'static str],
}

/// A running gateway. It ends when this value is dropped, or with the test process.
pub struct Gateway {
    base: String,
    keeper: Child,
    folder: tempfile::TempDir,
}

impl Runner {
    /// Returns the path of the program, or skips the test and returns `None` if it is not installed.
    pub fn path_if_installed(&self) -> Option<PathBuf> {
        let path = self.path();
        if path.is_none() {
            skip(&format!(
                "{0}: the program {0} is not installed",
                self.program
            ));
        }
        path
    }

    fn path(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            // Debian installs nginx in a folder that is not in the PATH of every user.
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|folder| folder.join(self.program))
            .find(|program| program.is_file())
    }

    /// Starts the gateway on the configuration that `recipe` returns for its address and its folder.
    pub fn start(&self, recipe: impl Fn(SocketAddr, &Path) -> String) -> Gateway {
        // The port is free now. If another process takes it before the gateway does, try another port.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port");
            if let Some(gateway) = self.run(address, &recipe) {
                return gateway;
            }
        }
        panic!("no port stays free");
    }

    /// Returns `None` if another process has taken the port.
    fn run(
        &self,
        address: SocketAddr,
        recipe: impl Fn(SocketAddr, &Path) -> String,
    ) -> Option<Gateway> {
        let folder = tempfile::tempdir().expect("a folder");
        // If root starts nginx, its workers run as `nobody` and need access to the temporary files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the right");
        let recipe = recipe(address, folder.path());
        fs::write(folder.path().join("recipe"), recipe).expect("to write the recipe");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(self.path().expect("the program"))
            .args(self.arguments)
            .current_dir(folder.path())
            // Caddy stores its state in these folders.
            .env("XDG_DATA_HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut gateway = Gateway {
            base: format!("http://{address}"),
            keeper,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let connected = TcpStream::connect(address).is_ok();
            let log = gateway.read("log").to_lowercase();
            if log.contains("address already in use") {
                return None;
            }
            if connected {
                return Some(gateway);
            }
            let ended = gateway.keeper.try_wait().expect("its state").is_some();
            let late = Instant::now() > deadline;
            assert!(!ended && !late, "{} does not start: {log}", self.program);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Gateway {
    /// Returns the current content of a file in the folder of the gateway.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    pub fn client(&self) -> Client {
        Client::new(&self.base)
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.base.trim_start_matches("http://");
        address.parse().expect("an address")
    }
}

/// Shell script that runs a gateway until its standard input is closed. That happens at the latest when the test
/// process ends. SIGKILL would leave the workers of nginx behind.
const KEEPER: &str = r#"
    exec 3<&0 >log 2>&1
    "$@" 3<&- &
    gateway=$!
    { cat >/dev/null; kill "$gateway"; } <&3 &
    exec 3<&-
    wait "$gateway"
"#;

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.keeper.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let group = format!("-{}", self.keeper.id());
                let _ = Command::new("kill")
                    .args(["-s", "KILL", "--", &group])
                    .status();
                let _ = self.keeper.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
