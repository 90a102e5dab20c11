//! The recipes in `examples/gateways`, each run in a real gateway.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "nobody but these tests sees it")]

#[expect(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/gateway.rs"]
mod runner;

/// Makes two tests of each of these functions, behind nginx and behind Caddy.
macro_rules! behind_each_gateway {
    ($($name:ident),+ $(,)?) => {
        mod nginx {
            $(#[test] fn $name() {
                if let Some(recipe) = crate::gateway::NGINX.if_installed() {
                    super::$name(recipe);
                }
            })+
        }

        mod caddy {
            $(#[test] fn $name() {
                if let Some(recipe) = crate::gateway::CADDY.if_installed() {
                    super::$name(recipe);
                }
            })+
        }
    };
}

mod answers;
mod caddy;
mod gateway;
mod keys;
mod nginx;
mod server;
