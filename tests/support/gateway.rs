//! A gateway such as nginx, run on a configuration in a folder of its own.

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

/// How to run nginx.
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

/// How to run one on the file `recipe` in the working folder.
pub struct Runner {
    pub program: &'static str,
    pub arguments: &'static [&'static str],
}

/// A gateway that listens. It ends when this is dropped, or with this process.
pub struct Gateway {
    base: String,
    keeper: Child,
    folder: tempfile::TempDir,
}

impl Runner {
    /// Where the program is. `None`, with a word about it, if it is not there.
    pub fn if_installed(&self) -> Option<PathBuf> {
        let path = self.path();
        if path.is_none() {
            skip(&format!("{0}: the program {0} is not there", self.program));
        }
        path
    }

    fn path(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            // Where Debian has nginx, which is not in everybody's path.
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|folder| folder.join(self.program))
            .find(|program| program.is_file())
    }

    /// Starts it on what `recipe` makes of its address and its folder.
    pub fn start(&self, recipe: impl Fn(SocketAddr, &Path) -> String) -> Gateway {
        // Free now; should somebody else take it before the gateway does, another one.
        for _ in 0..5 {
            let own = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port");
            if let Some(gateway) = self.run(own, &recipe) {
                return gateway;
            }
        }
        panic!("no port stays free");
    }

    /// `None` if somebody else has that port.
    fn run(
        &self,
        own: SocketAddr,
        recipe: impl Fn(SocketAddr, &Path) -> String,
    ) -> Option<Gateway> {
        let folder = tempfile::tempdir().expect("a folder");
        // Started by root, nginx works as `nobody`, who must find the files that it puts by.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the right");
        let recipe = recipe(own, folder.path());
        fs::write(folder.path().join("recipe"), recipe).expect("to write the recipe");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(self.path().expect("the program"))
            .args(self.arguments)
            .current_dir(folder.path())
            // Where Caddy keeps what it wants to find again.
            .env("XDG_DATA_HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut gateway = Gateway {
            base: format!("http://{own}"),
            keeper,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let connected = TcpStream::connect(own).is_ok();
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
    /// What is in this file of its folder by now.
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

/// Runs a gateway until its own input ends, which it does with the process that holds the other end.
/// Killed outright, nginx would leave its workers behind.
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
