//! `latchkey admin`: grants and revokes the role `admin`.
//!
//! Works beside a running server, which applies the change from its next request on. The first admin is created here,
//! never over HTTP. Migrates the database first, as `serve` does.

use std::io::Write as _;

use clap::{Args, Subcommand};

use crate::{
    config::DatabaseConfig,
    db::Db,
    domain::{
        clock::Clock,
        email::{Email, EmailKey},
        error::Error,
    },
    models::user::User,
    server::{self, StartError},
    services::users::Users,
    verification::coherence::Coherence,
};

#[derive(Args)]
pub(super) struct Admin {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Grant the role `admin` to the account with this email address.
    Grant(Account),
    /// Revoke the role `admin`; the account becomes a `member`. The last admin cannot be revoked.
    Revoke(Account),
}

#[derive(Args)]
struct Account {
    /// Email address of the account.
    email: String,
    #[command(flatten)]
    database: DatabaseConfig,
}

pub(super) fn run(options: Admin) -> Result<(), StartError> {
    let (account, admin) = match options.action {
        Action::Grant(account) => (account, true),
        Action::Revoke(account) => (account, false),
    };
    let email = Email::parse(&account.email)
        .map_err(|remedy| StartError::Setting(format!("EMAIL {remedy}")))?;
    let address = email.as_str().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(failed)?;
    let user = runtime
        .block_on(set_admin(&account.database, email.into_key(), admin))?
        .ok_or_else(|| {
            failed(format!(
                "no account has the email address {address}; sign up first"
            ))
        })?;
    let note = if user.active {
        ""
    } else {
        ", but is deactivated and cannot log in"
    };
    writeln!(
        std::io::stdout(),
        "{address} has the role {}{note}",
        user.role
    )
    .map_err(failed)
}

/// Sets the role and returns the changed account, or `None` if no account has this address.
async fn set_admin(
    database: &DatabaseConfig,
    email: EmailKey,
    admin: bool,
) -> Result<Option<User>, StartError> {
    if let Some(path) = database.url.sqlite_path().filter(|path| !path.exists()) {
        return Err(failed(format!(
            "the database {} does not exist; set DATABASE_URL (--database-url) to the database of the server",
            path.display()
        )));
    }
    server::migrate(&database.url)?;
    let db = Db::open(database).map_err(failed)?;
    let clock = Clock::default();
    let coherence = Coherence::beside(db.clone(), database, clock.clone());
    Users::new(db, coherence, clock)
        .set_admin(email, admin)
        .await
        .map_err(|error| match &error {
            Error::Conflict(reason) => failed(reason),
            other => failed(other.cause().unwrap_or(&other.to_string())),
        })
}

fn failed(reason: impl ToString) -> StartError {
    StartError::Environment(reason.to_string())
}
