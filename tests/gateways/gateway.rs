//! A recipe, run as its reader would run it: with addresses of one's own, in a folder of one's own.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, skip};

pub const NGINX: Recipe = Recipe {
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
    text: include_str!("../../examples/gateways/nginx.conf"),
    unreachable: 503,
    too_slow: 503,
};

pub const CADDY: Recipe = Recipe {
    program: "caddy",
    arguments: &["run", "--config", "recipe", "--adapter", "caddyfile"],
    text: include_str!("../../examples/gateways/Caddyfile"),
    unreachable: 502,
    too_slow: 504,
};

pub struct Recipe {
    program: &'static str,
    arguments: &'static [&'static str],
    text: &'static str,
    /// The status when latchkey cannot be reached.
    pub unreachable: u16,
    /// The status when latchkey does not answer in time.
    pub too_slow: u16,
}

/// A gateway that listens. It ends when this is dropped, or with this process.
pub struct Gateway {
    base: String,
    keeper: Child,
    _folder: tempfile::TempDir,
}

impl Recipe {
    /// `None`, with a word about it, where the program is not there.
    pub fn if_installed(&self) -> Option<&Self> {
        if self.path().is_none() {
            skip(&format!("{0}: the program {0} is not there", self.program));
        }
        self.path().map(|_| self)
    }

    fn path(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            // Where Debian has nginx, which is not in everybody's path.
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|folder| folder.join(self.program))
            .find(|program| program.is_file())
    }

    pub fn start(&self, latchkey: SocketAddr, application: SocketAddr) -> Gateway {
        self.start_with(latchkey, application, |recipe| recipe)
    }

    pub fn start_with(
        &self,
        latchkey: SocketAddr,
        application: SocketAddr,
        change: impl Fn(String) -> String,
    ) -> Gateway {
        // Free now; should somebody else take it before the gateway does, another one.
        for _ in 0..5 {
            let own = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port");
            let recipe = [
                ("127.0.0.1:8080", own),
                ("127.0.0.1:8000", latchkey),
                ("127.0.0.1:9000", application),
            ]
            .iter()
            .fold(self.text.to_owned(), |recipe, (address, other)| {
                assert!(recipe.contains(address), "no {address} in {}", self.program);
                recipe.replace(address, &other.to_string())
            });
            if let Some(gateway) = self.run(own, &change(recipe)) {
                return gateway;
            }
        }
        panic!("no port stays free");
    }

    /// `None` if somebody else has that port.
    fn run(&self, own: SocketAddr, recipe: &str) -> Option<Gateway> {
        let folder = tempfile::tempdir().expect("a folder");
        // Started by root, nginx works as `nobody`, who must find the files that it puts by.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the right");
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
            _folder: folder,
        };
        let log = || {
            fs::read_to_string(gateway._folder.path().join("log"))
                .unwrap_or_default()
                .to_lowercase()
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let connected = TcpStream::connect(own).is_ok();
            if log().contains("address already in use") {
                return None;
            }
            if connected {
                return Some(gateway);
            }
            let ended = gateway.keeper.try_wait().expect("its state").is_some();
            let late = Instant::now() > deadline;
            assert!(
                !ended && !late,
                "{} does not start: {}",
                self.program,
                log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Gateway {
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
