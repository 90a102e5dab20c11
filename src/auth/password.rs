//! Passwords in plain text, and the rules for them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// Maximum length: bcrypt ignores all further bytes. A longer password is rejected, never truncated: otherwise two
/// passwords with the same first 72 bytes would open the same account.
const MAX_BYTES: usize = 72;
const MIN_BYTES: usize = 8;

/// Password in plain text, as received in a request.
pub struct Password(SecretString);

impl Password {
    /// Checks that the password is acceptable as a new one. The error says what would be accepted.
    pub fn check_new(&self) -> Result<(), &'static str> {
        if self.bytes().len() < MIN_BYTES {
            return Err("must be 8 to 72 bytes long");
        }
        self.check_presented()
    }

    /// Checks that the password could be that of an account. The error says what would be accepted.
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
