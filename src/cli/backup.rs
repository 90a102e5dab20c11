//! `latchkey backup`: the embedded database in one file. Works beside a running server.

use std::{io::Write as _, path::PathBuf};

use clap::Args;

use crate::{
    auth::token_secret,
    config::{database_url::DatabaseUrl, file_name::file_path},
    db::backup::{self, BackupError},
    server::StartError,
};

#[derive(Args)]
pub(super) struct Backup {
    /// The file to make. It must not be there yet.
    #[arg(value_parser = file_path())]
    file: PathBuf,

    /// `sqlite://path`: the embedded database to copy.
    #[arg(
        long = "database-url",
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://data/latchkey.db"
    )]
    url: DatabaseUrl,
}

pub(super) fn run(options: &Backup) -> Result<(), StartError> {
    let made = backup::run(&options.url, &options.file).map_err(|error| match error {
        BackupError::Postgres => {
            StartError::Setting(format!("DATABASE_URL (--database-url): {error}"))
        }
        error => StartError::Environment(error.to_string()),
    })?;
    let mut text = String::new();
    for (table, rows) in &made.rows {
        text.push_str(&format!("{rows:>12}  {table}\n"));
    }
    text.push_str(&format!(
        "{} is whole: {} bytes\n",
        options.file.display(),
        made.bytes
    ));
    let secret = options.url.sqlite_path().map(token_secret::path_beside);
    if let Some(secret) = secret.filter(|secret| secret.exists()) {
        text.push_str(&format!(
            "{} is not in it: keep it apart. Restored without it, keys work and people log in again\n",
            secret.display()
        ));
    }
    write!(std::io::stdout(), "{text}").map_err(|e| StartError::Environment(e.to_string()))
}
