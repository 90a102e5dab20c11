//! Settings that are secret. `Debug` redacts them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::{file_name::is_invisible, parse::is_server_url};

/// Secret that signs user tokens. Its length is validated.
#[derive(Clone)]
pub struct JwtSecret(SecretString);

impl JwtSecret {
    /// Minimum length, in bytes: the output size of HMAC-SHA256, as RFC 7518 section 3.2 requires.
    pub const MIN_BYTES: usize = 32;

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl std::str::FromStr for JwtSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() < Self::MIN_BYTES {
            return Err(format!(
                "is {} bytes long, but needs at least {} random bytes, such as the output of `openssl rand -base64 32`",
                text.len(),
                Self::MIN_BYTES
            ));
        }
        Ok(Self(text.to_owned().into()))
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret([REDACTED])")
    }
}

/// URL of Redis. It may contain a password.
#[derive(Clone)]
pub struct RedisUrl(SecretString);

impl RedisUrl {
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::str::FromStr for RedisUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The Redis client library removes line breaks, and so would use another password.
        let is_visible = !text.contains(is_invisible);
        if is_visible && is_server_url(text, &["redis", "rediss"]) {
            Ok(Self(text.to_owned().into()))
        } else {
            Err(
                "must be redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, with user \
                 name and password percent-encoded",
            )
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl([REDACTED])")
    }
}
