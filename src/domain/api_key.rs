//! The form of an API key: made, recognised and digested here.
//!
//! `sk_live_` or `sk_test_`, 32 base62 characters from the system's secure generator (190 bits), then 6
//! base62 characters of CRC-32 over all that stands before. The prefix lets secret scanners find a
//! leaked key; the checksum lets a mistyped one be refused without asking the database.

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

use crate::domain::text::deserialize_parsed;

const RANDOM_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How much of the random part stands in the prefix: enough to recognise a key by, 24 of 190 bits.
const SHOWN_LENGTH: usize = 4;

/// Whether a key is for production use or for trying things out.
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
    /// The name in the database, the same as in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The one with this name.
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

/// A whole key in the clear. It exists in the answer that creates it, and nowhere else.
pub struct PlainApiKey(SecretString);

impl PlainApiKey {
    /// A fresh key.
    pub fn generate(environment: Environment) -> Self {
        let start = environment.key_start();
        let mut key = String::with_capacity(start.len() + RANDOM_LENGTH + CHECKSUM_LENGTH);
        key.push_str(start);
        let mut system = rand::rand_core::UnwrapErr(SysRng);
        key.extend((0..RANDOM_LENGTH).map(|_| char::from(Alphanumeric.sample(&mut system))));
        let checksum = checksum(key.as_bytes());
        key.extend(checksum.map(char::from));
        Self(key.into())
    }

    /// What a person recognises the key by, such as `sk_live_aB3x`.
    pub fn prefix(&self) -> &str {
        let key = self.0.expose_secret();
        &key[..key.len() - RANDOM_LENGTH - CHECKSUM_LENGTH + SHOWN_LENGTH]
    }

    /// What is stored of it.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.0.expose_secret())
    }

    /// The key itself, for its owner.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for PlainApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainApiKey([REDACTED])")
    }
}

/// SHA-256 of a key. A plain hash is enough where the input has 190 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Binary)]
pub struct KeyDigest(pub(crate) [u8; 32]);

impl KeyDigest {
    /// The digest of what a caller presented, if that has the form of a key: no I/O is spent on
    /// anything else.
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

/// Of a digest too, as little as possible is shown.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest([REDACTED])")
    }
}

/// CRC-32 (IEEE 802.3, as zlib's) of `body`, a number in base 62, most significant digit first, padded
/// with `0`.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_crc32_in_base62_most_significant_first() {
        // CRC-32 of "123456789" is 0xCBF43926 (the check value of the CRC catalogue) = 3421780262.
        let value = checksum(b"123456789").iter().fold(0u64, |value, digit| {
            let place = BASE62.iter().position(|d| d == digit).unwrap_or(62);
            value * 62 + place as u64
        });
        assert_eq!(value, 3_421_780_262);
    }

    #[test]
    fn a_key_that_another_program_made_is_recognised() {
        // By zlib's crc32.
        assert!(
            KeyDigest::of_presented("sk_live_ExampleExampleExampleExample12344Lvtrp").is_some()
        );
    }

    #[test]
    fn checksum_is_padded_with_zeros() {
        // CRC-32 of nothing is 0.
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn a_fresh_key_has_the_form_and_is_recognised() {
        for environment in [Environment::Live, Environment::Test] {
            let key = PlainApiKey::generate(environment);
            assert_eq!(key.expose().len(), 8 + 32 + 6);
            assert_eq!(key.prefix(), &key.expose()[..12]);
            assert!(KeyDigest::of_presented(key.expose()) == Some(key.digest()));
        }
    }

    #[test]
    fn any_single_changed_character_is_refused() {
        let key = PlainApiKey::generate(Environment::Live);
        for place in 0..key.expose().len() {
            let mut mistyped = key.expose().as_bytes().to_vec();
            mistyped[place] = if mistyped[place] == b'x' { b'y' } else { b'x' };
            let mistyped = String::from_utf8(mistyped).unwrap_or_default();
            assert!(KeyDigest::of_presented(&mistyped).is_none(), "at {place}");
        }
    }

    #[test]
    fn other_shapes_are_refused() {
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
    fn debug_shows_nothing_of_it() {
        let key = PlainApiKey::generate(Environment::Live);
        assert_eq!(format!("{key:?}"), "PlainApiKey([REDACTED])");
    }
}
