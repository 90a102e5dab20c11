//! `latchkey copy`: everything from one database into another one, between SQLite and PostgreSQL.

use std::io::Write as _;

use clap::Args;

use crate::{
    auth::token_secret,
    config::database_url::DatabaseUrl,
    db::{
        ConnectError,
        copy::{self, CopyError},
    },
    server::StartError,
};

#[derive(Args)]
pub(super) struct Copy {
    /// The database to copy, as DATABASE_URL would name it. Nobody may serve it meanwhile.
    #[arg(long, env = "COPY_FROM", hide_env_values = true, value_name = "URL")]
    from: Option<DatabaseUrl>,

    /// The database to fill, which must be empty, or not be there yet if it is SQLite's.
    #[arg(long, env = "COPY_TO", hide_env_values = true, value_name = "URL")]
    to: Option<DatabaseUrl>,
}

pub(super) fn run(options: Copy) -> Result<(), StartError> {
    let needed = |name: &str, flag: &str| {
        StartError::Setting(format!(
            "needs {name} ({flag}), or {name}_FILE: a database, as DATABASE_URL names one"
        ))
    };
    let from = options.from.ok_or_else(|| needed("COPY_FROM", "--from"))?;
    let to = options.to.ok_or_else(|| needed("COPY_TO", "--to"))?;
    let copied = copy::run(&from, &to).map_err(|error| match error {
        CopyError::Connect {
            side,
            reason: reason @ (ConnectError::Url | ConnectError::Parameter(_)),
        } => StartError::Setting(format!("{side} {reason}")),
        CopyError::Migrate(error) if error.is_about_the_url() => {
            StartError::Setting(format!("the target {error}"))
        }
        error => StartError::Environment(error.to_string()),
    })?;
    let mut text = String::from("        rows  table             sha256 of all rows\n");
    for copied in &copied {
        let (rows, sha256) = (copied.summary.rows, &copied.summary.sha256);
        text.push_str(&format!("{rows:>12}  {:<16}  {sha256}\n", copied.table));
    }
    text.push_str("the same on both sides, read back\n");
    text.push_str(&note(&from, &to));
    write!(std::io::stdout(), "{text}").map_err(|e| StartError::Environment(e.to_string()))
}

/// What becomes of the tokens that people have.
fn note(from: &DatabaseUrl, to: &DatabaseUrl) -> String {
    let made = from.sqlite_path().map(token_secret::path_beside);
    match made.filter(|secret| secret.exists()) {
        Some(secret) => format!(
            "so that tokens go on, set JWT_SECRET_FILE to a copy of {}\n",
            secret.display()
        ),
        None if to.sqlite_path().is_some() => {
            "so that tokens go on, keep JWT_SECRET as it was\n".to_owned()
        }
        None => String::new(),
    }
}
