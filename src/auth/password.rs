//! Passwords as people choose and present them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// bcrypt reads no more than this. A longer password is refused, never cut: of two passwords that
/// share their first 72 bytes, either would open the account.
const MAX_BYTES: usize = 72;
const MIN_BYTES: usize = 8;

/// A password in the clear, as it came in a request.
pub struct Password(SecretString);

impl Password {
    /// Whether it may become the password of an account; if not, what would.
    pub fn check_new(&self) -> Result<(), &'static str> {
        if self.bytes().len() < MIN_BYTES {
            return Err("must be 8 to 72 bytes long");
        }
        self.check_presented()
    }

    /// Whether it could be the password of an account at all.
    pub fn check_presented(&self) -> Result<(), &'static str> {
        if self.bytes().len() > MAX_BYTES {
            return Err("must be 8 to 72 bytes long");
        }
        // bcrypt repeats the password and its terminating NUL until it has 72 bytes, so that
        // "secret" and "secret\0secret" would be the same.
        if self.bytes().contains(&0) {
            return Err("must not contain the character U+0000");
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([REDACTED])")
    }
}
