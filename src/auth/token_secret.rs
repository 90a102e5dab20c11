//! Token secret of an embedded database, which is generated on the first start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rand::{TryRng as _, rngs::SysRng};

use crate::config::JwtSecret;

/// Returns the path of the secret: beside the database, so that people who move or back up the database notice it.
pub fn path_beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".jwt-secret");
    name.into()
}

/// Reads the secret, or generates it. The caller must prevent other processes from doing so at the same time.
pub fn load_or_make(path: &Path) -> io::Result<JwtSecret> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => generate(path)?,
        read => read?,
    };
    text.trim()
        .parse()
        .map_err(|problem: String| io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// Generates the secret. Writes it to a temporary file, which is then renamed: a crash leaves either no secret or a
/// complete one.
fn generate(path: &Path) -> io::Result<String> {
    let mut bytes = [0u8; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(io::Error::other)?;
    let text = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes);

    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(text)
}
