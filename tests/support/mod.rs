//! Shared test helpers: servers with databases of their own, clients, proxies and external programs.

mod client;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod redis;
pub mod server;

pub use client::{Client, PASSWORD, PERMISSIONS, Reply, path_of};
pub use program::Program;
pub use server::{TestServer, config};

/// Defines two tests for each of these functions, on SQLite and on PostgreSQL, each with a fresh server. The settings
/// of the server can be adjusted first: `|config| config.signup = Signup::Closed;`. A function that is not listed
/// is dead code, which the lints reject.
#[macro_export]
macro_rules! on_both_databases {
    ($(|$config:ident| $adjust:expr;)? $($name:ident),+ $(,)?) => {
        fn adjust(_config: &mut latchkey::config::Config) {
            $(let $config = _config; $adjust;)?
        }

        mod sqlite {
            $(#[test] fn $name() {
                super::$name($crate::support::TestServer::on_sqlite(super::adjust));
            })+
        }

        mod postgres {
            $(#[test] fn $name() {
                if let Some(database) = $crate::support::postgres::fresh_database() {
                    let url = &database.url;
                    super::$name($crate::support::TestServer::on(url, super::adjust));
                }
            })+
        }
    };
}

/// Reports that a test cannot run on this machine. In CI the test fails instead.
pub fn skip(reason: &str) {
    use std::io::Write as _;
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "skipped in CI: {reason}"
    );
    // Bypasses the test harness, which shows output of failed tests only.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}
