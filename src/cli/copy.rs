//! `latchkey copy`: copies all data from one database into another, between SQLite and PostgreSQL.

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
    /// Database to copy, in the form of DATABASE_URL. No server may use it meanwhile.
    #[arg(long, env = "COPY_FROM", hide_env_values = true, value_name = "URL")]
    from: Option<DatabaseUrl>,

    /// Database to fill, in the form of DATABASE_URL. It must be empty; an SQLite file may be missing.
    #[arg(long, env = "COPY_TO", hide_env_values = true, value_name = "URL")]
    to: Option<DatabaseUrl>,
}

pub(super) fn run(options: Copy) -> Result<(), StartError> {
    let missing = |name: &str, flag: &str| {
        StartError::Setting(format!(
            "{name} ({flag}) or {name}_FILE is missing; set it to a database, in the form of DATABASE_URL"
        ))
    };
    let from = options.from.ok_or_else(|| missing("COPY_FROM", "--from"))?;
    let to = options.to.ok_or_else(|| missing("COPY_TO", "--to"))?;
    let copied = copy::run(&from, &to).map_err(|error| match error {
        CopyError::Connect {
            side,
            reason: reason @ (ConnectError::Url | ConnectError::Parameter(_)),
        } => StartError::Setting(format!("{side} {reason}")),
        CopyError::Migrate(error) if error.is_invalid_url() => {
            StartError::Setting(format!("the target {error}"))
        }
        error => StartError::Environment(error.to_string()),
    })?;
    let mut text = String::from("        rows  table             sha256 of all rows\n");
    for copied in &copied {
        let (rows, sha256) = (copied.summary.rows, &copied.summary.sha256);
        text.push_str(&format!("{rows:>12}  {:<16}  {sha256}\n", copied.table));
    }
    text.push_str("read back: the same on both sides\n");
    text.push_str(&note(&from, &to));
    write!(std::io::stdout(), "{text}").map_err(|e| StartError::Environment(e.to_string()))
}

/// Returns a note on how to keep user tokens valid.
fn note(from: &DatabaseUrl, to: &DatabaseUrl) -> String {
    let generated = from.sqlite_path().map(token_secret::path_beside);
    match generated.filter(|secret| secret.exists()) {
        Some(secret) => format!(
            "to keep user tokens valid, set JWT_SECRET_FILE to a copy of {}\n",
            secret.display()
        ),
        None if to.sqlite_path().is_some() => {
            "to keep user tokens valid, keep the same JWT_SECRET\n".to_owned()
        }
        None => String::new(),
    }
}
