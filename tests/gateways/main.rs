//! Tests of the recipes in `examples/gateways`, each run in the real gateway.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![expect(unreachable_pub, reason = "only these tests use it")]

#[expect(dead_code, unused_imports, reason = "other test binaries use the rest")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/gateway.rs"]
mod runner;

/// Generates two tests from each of these functions: one behind nginx, one behind Caddy.
macro_rules! behind_each_gateway {
    ($($name:ident),+ $(,)?) => {
        mod nginx {
            $(#[test] fn $name() {
                if let Some(recipe) = crate::gateway::NGINX.path_if_installed() {
                    super::$name(recipe);
                }
            })+
        }

        mod caddy {
            $(#[test] fn $name() {
                if let Some(recipe) = crate::gateway::CADDY.path_if_installed() {
                    super::$name(recipe);
                }
            })+
        }
    };
}

mod caddy;
mod gateway;
mod keys;
mod nginx;
mod responses;
mod server;
