//! Settings that must not be shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::config::file_name::is_invisible;

/// A secret for signing tokens, checked for its length.
#[derive(Clone)]
pub struct JwtSecret(SecretString);

impl JwtSecret {
    /// As many bytes as HMAC-SHA256 puts out: RFC 7518 section 3.2 asks for no less.
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
                "is {} bytes long; give at least {} random bytes, such as the output of `openssl rand -base64 32`",
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

/// A URL that may have a password in it.
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
        let schemes = ["redis://", "rediss://"];
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        let has_host = |rest: &str| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let address = authority.rsplit('@').next().unwrap_or_default();
            let (host, port) = match address.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, port),
                _ => (address, "6379"),
            };
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        // The client's library would leave out line breaks, and so use another password.
        let is_visible = !text.contains(is_invisible);
        match is_visible && rest.is_some_and(has_host) {
            true => Ok(Self(text.to_owned().into())),
            false => Err(
                "must be redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, with user \
                 name and password percent-encoded",
            ),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl([REDACTED])")
    }
}
