//! `latchkey backup`: copies the embedded database into one file. Works beside a running server.

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
    /// File to create. It must not exist yet.
    #[arg(value_parser = file_path())]
    file: PathBuf,

    /// Embedded database to back up, as `sqlite://path`.
    #[arg(
        long = "database-url",
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://data/latchkey.db"
    )]
    url: DatabaseUrl,
}

pub(super) fn run(options: &Backup) -> Result<(), StartError> {
    let backup = backup::run(&options.url, &options.file).map_err(|error| match error {
        BackupError::Postgres => {
            StartError::Setting(format!("DATABASE_URL (--database-url): {error}"))
        }
        error => StartError::Environment(error.to_string()),
    })?;
    let mut text = String::new();
    for (table, rows) in &backup.rows {
        text.push_str(&format!("{rows:>12}  {table}\n"));
    }
    text.push_str(&format!(
        "{} is complete: {} bytes\n",
        options.file.display(),
        backup.bytes
    ));
    let secret = options.url.sqlite_path().map(token_secret::path_beside);
    if let Some(secret) = secret.filter(|secret| secret.exists()) {
        text.push_str(&format!(
            "{} is not part of the backup: store it separately. After a restore without it, API keys work, but \
             users have to log in again\n",
            secret.display()
        ));
    }
    write!(std::io::stdout(), "{text}").map_err(|e| StartError::Environment(e.to_string()))
}
