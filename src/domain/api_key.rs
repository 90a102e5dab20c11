//! Format of an API key: generation, validation of the form, and the digest.
//!
//! A key is `sk_live_` or `sk_test_`, then 32 base62 characters from the system's secure generator (190 bits), then 6
//! base62 characters of CRC-32 over everything before them. The prefix lets secret scanners find a leaked key. The
//! checksum lets the service reject a mistyped key without a database query.

use std::fmt;

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use rand::{
    distr::{Alphanumeric, Distribution},
    rngs::SysRng,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::text::deserialize_parsed;

const RANDOM_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Number of random characters in the prefix: enough to recognise a key, and only 24 of its 190 random bits.
const SHOWN_LENGTH: usize = 4;

/// Environment that a key is for: production or tests.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = diesel::sql_types::Text)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    #[default]
    Live,
    Test,
}

impl Environment {
    /// Returns the name, which is the same in the database and in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Returns the environment with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Test]
            .into_iter()
            .find(|environment| environment.as_str() == name)
    }

    fn key_start(self) -> &'static str {
        match self {
            Self::Live => "sk_live_",
            Self::Test => "sk_test_",
        }
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer, |name| {
            Self::from_name(name).ok_or("must be `live` or `test`")
        })
    }
}

/// Whole API key in plain text. It exists in the response that creates it, and nowhere else.
pub struct PlainApiKey(SecretString);

impl PlainApiKey {
    /// Generates a new key.
    pub fn generate(environment: Environment) -> Self {
        let start = environment.key_start();
        let mut key = String::with_capacity(start.len() + RANDOM_LENGTH + CHECKSUM_LENGTH);
        key.push_str(start);
        let mut generator = rand::rand_core::UnwrapErr(SysRng);
        key.extend((0..RANDOM_LENGTH).map(|_| char::from(Alphanumeric.sample(&mut generator))));
        let checksum = checksum(key.as_bytes());
        key.extend(checksum.map(char::from));
        Self(key.into())
    }

    /// Returns the start by which a person recognises the key, such as `sk_live_aB3x`.
    pub fn prefix(&self) -> &str {
        let key = self.0.expose_secret();
        &key[..key.len() - RANDOM_LENGTH - CHECKSUM_LENGTH + SHOWN_LENGTH]
    }

    /// Returns the digest, which is stored instead of the key.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.0.expose_secret())
    }

    /// Returns the key itself, for its owner.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for PlainApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainApiKey([REDACTED])")
    }
}

/// SHA-256 of a key. A plain hash is sufficient because the input has 190 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Binary)]
pub struct KeyDigest(pub(crate) [u8; 32]);

impl KeyDigest {
    /// Returns the digest of a presented string if it has the form of a key. No I/O is spent on any other string.
    pub fn of_presented(presented: &str) -> Option<Self> {
        let random = presented
            .strip_prefix(Environment::Live.key_start())
            .or_else(|| presented.strip_prefix(Environment::Test.key_start()))?;
        if random.len() != RANDOM_LENGTH + CHECKSUM_LENGTH
            || !random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return None;
        }
        let (body, given) = presented.as_bytes().split_last_chunk()?;
        (checksum(body) == *given).then(|| Self::of(presented))
    }

    fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

/// Redacts the digest too: logs should show as little as possible of a key.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest([REDACTED])")
    }
}

/// Computes CRC-32 (IEEE 802.3, as zlib's) of `body` as a base-62 number, most significant digit first, padded with
/// `0`.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut remainder = crc32fast::hash(body);
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(remainder % 62) as usize];
        remainder /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_crc32_in_base62_most_significant_digit_first() {
        // CRC-32 of "123456789" is 0xCBF43926 (the check value of the CRC catalogue) = 3421780262.
        let value = checksum(b"123456789").iter().fold(0u64, |value, digit| {
            let digit = BASE62.iter().position(|d| d == digit).unwrap_or(62);
            value * 62 + digit as u64
        });
        assert_eq!(value, 3_421_780_262);
    }

    #[test]
    fn key_with_checksum_from_zlib_is_recognised() {
        // The checksum was computed with zlib's crc32.
        assert!(
            KeyDigest::of_presented("sk_live_ExampleExampleExampleExample12344Lvtrp").is_some()
        );
    }

    #[test]
    fn short_checksum_is_padded_with_zeros() {
        // CRC-32 of nothing is 0.
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn generated_key_has_the_documented_form_and_is_recognised() {
        for environment in [Environment::Live, Environment::Test] {
            let key = PlainApiKey::generate(environment);
            assert_eq!(key.expose().len(), 8 + 32 + 6);
            assert_eq!(key.prefix(), &key.expose()[..12]);
            assert!(KeyDigest::of_presented(key.expose()) == Some(key.digest()));
        }
    }

    #[test]
    fn key_with_one_changed_character_is_rejected() {
        let key = PlainApiKey::generate(Environment::Live);
        for position in 0..key.expose().len() {
            let mut mistyped = key.expose().as_bytes().to_vec();
            mistyped[position] = if mistyped[position] == b'x' {
                b'y'
            } else {
                b'x'
            };
            let mistyped = String::from_utf8(mistyped).unwrap_or_default();
            assert!(
                KeyDigest::of_presented(&mistyped).is_none(),
                "at {position}"
            );
        }
    }

    #[test]
    fn string_of_another_form_is_rejected() {
        let key = PlainApiKey::generate(Environment::Live);
        let key = key.expose();
        for other in [
            "",
            "sk_live_",
            &key[..key.len() - 1],
            &format!("{key}0"),
            &format!(" {key}"),
            &key.replace("sk_live_", "sk_prod_"),
            &"é".repeat(23),
        ] {
            assert!(KeyDigest::of_presented(other).is_none(), "{}", other.len());
        }
    }

    #[test]
    fn debug_output_of_plain_key_is_redacted() {
        let key = PlainApiKey::generate(Environment::Live);
        assert_eq!(format!("{key:?}"), "PlainApiKey([REDACTED])");
    }
}
