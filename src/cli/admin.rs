//! `latchkey admin`: who has the role `admin`. Works beside a running server, and holds for its next
//! request. The first admin is made here, and never over HTTP. Brings the database up to date first, as
//! `serve` does.

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
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// Give the role `admin` to the account that signed up with this address.
    Grant(Account),
    /// Give the role `member` to an admin. The last admin stays one.
    Revoke(Account),
}

#[derive(Args)]
struct Account {
    /// The account's e-mail address.
    email: String,
    #[command(flatten)]
    database: DatabaseConfig,
}

pub(super) fn run(options: Admin) -> Result<(), StartError> {
    let (account, admin) = match options.order {
        Order::Grant(account) => (account, true),
        Order::Revoke(account) => (account, false),
    };
    let email = Email::parse(&account.email)
        .map_err(|remedy| StartError::Setting(format!("EMAIL {remedy}")))?;
    let written = email.as_str().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(failed)?;
    let user = runtime
        .block_on(set_admin(&account.database, email.into_key(), admin))?
        .ok_or_else(|| {
            failed(format!(
                "no account has the address {written}; sign up first"
            ))
        })?;
    let note = if user.active {
        ""
    } else {
        ", and is deactivated: it cannot log in"
    };
    writeln!(
        std::io::stdout(),
        "{written} has the role {}{note}",
        user.role
    )
    .map_err(failed)
}

/// Answers the account as it is now, if there is one.
async fn set_admin(
    database: &DatabaseConfig,
    email: EmailKey,
    admin: bool,
) -> Result<Option<User>, StartError> {
    if let Some(path) = database.url.sqlite_path().filter(|path| !path.exists()) {
        return Err(failed(format!(
            "there is no database {}; name the server's with DATABASE_URL (--database-url)",
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
            Error::Conflict(why) => failed(why),
            other => failed(other.cause().unwrap_or(&other.to_string())),
        })
}

fn failed(why: impl ToString) -> StartError {
    StartError::Environment(why.to_string())
}
