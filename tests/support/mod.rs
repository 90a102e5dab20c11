//! What the tests share: a server with a database of its own, and clients for it.

mod client;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod redis;
pub mod server;

pub use client::{Client, PASSWORD, PERMISSIONS, Reply, path_of};
pub use program::Program;
pub use server::{TestServer, config};

/// Makes two tests of each of these functions, on SQLite and on PostgreSQL, each with a fresh server,
/// whose settings may be adjusted first: `|config| config.signup = Signup::Closed;`. One that is not
/// listed is dead code, which the lints refuse.
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

/// Says that a test could not run here. In CI that is a failure.
pub fn skip(why: &str) {
    use std::io::Write as _;
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "skipped in CI: {why}"
    );
    // Past the test harness, which would show it for failed tests only.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
