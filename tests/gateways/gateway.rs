//! Starts gateways with the recipes, in which only the addresses are replaced.

use std::net::SocketAddr;

pub use crate::runner::Gateway;
use crate::runner::{self, Runner};

pub const NGINX: Recipe = Recipe {
    runner: runner::NGINX,
    text: include_str!("../../examples/gateways/nginx.conf"),
    unreachable: 503,
    too_slow: 503,
};

pub const CADDY: Recipe = Recipe {
    runner: Runner {
        program: "caddy",
        arguments: &["run", "--config", "recipe", "--adapter", "caddyfile"],
    },
    text: include_str!("../../examples/gateways/Caddyfile"),
    unreachable: 502,
    too_slow: 504,
};

pub struct Recipe {
    runner: Runner,
    text: &'static str,
    /// Status when latchkey is unreachable.
    pub unreachable: u16,
    /// Status when latchkey does not respond in time.
    pub too_slow: u16,
}

impl Recipe {
    /// Returns `None`, and reports the test as skipped, if the gateway is not installed.
    pub fn path_if_installed(&self) -> Option<&Self> {
        self.runner.path_if_installed().map(|_| self)
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
        self.runner.start(|own, _| {
            let recipe = [
                ("127.0.0.1:8080", own),
                ("127.0.0.1:8000", latchkey),
                ("127.0.0.1:9000", application),
            ]
            .iter()
            .fold(self.text.to_owned(), |recipe, (address, other)| {
                let program = self.runner.program;
                assert!(recipe.contains(address), "no {address} in {program}");
                recipe.replace(address, &other.to_string())
            });
            change(recipe)
        })
    }
}
