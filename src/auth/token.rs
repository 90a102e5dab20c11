//! User tokens: JWTs (RFC 7519) that are signed with HMAC-SHA256 only.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::ErrorKind,
    signature::{self, Signer, Verifier},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::{
    config::JwtSecret,
    domain::{clock::UtcTime, error::Error, id::UserId},
};

/// Issuer and audience of the tokens.
const ISSUER_AND_AUDIENCE: &str = "latchkey";

/// Issuer and verifier of tokens.
pub struct TokenAuthority {
    signing_key: EncodingKey,
    accepted_keys: Vec<DecodingKey>,
    validation: Validation,
    ttl_seconds: i64,
}

/// Account that a token was issued to, with its session version at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub user_id: UserId,
    pub version: i64,
}

/// Claims of a token. Every claim is required, with exactly this type.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    jti: Uuid,
    /// Session version of the account. Tokens with an earlier version are no longer valid.
    ver: i64,
}

impl TokenAuthority {
    /// Creates an authority that signs with `secret`, and accepts tokens of `secret` and of `previous`.
    pub fn new(secret: &JwtSecret, previous: Option<&JwtSecret>, ttl_seconds: i64) -> Self {
        // Fails only if it is already installed, for example by a previous test.
        let _ = HS256_ONLY.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER_AND_AUDIENCE]);
        validation.set_audience(&[ISSUER_AND_AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked in `check`, with the service's own clock and without leeway.
        validation.validate_exp = false;
        Self {
            signing_key: EncodingKey::from_secret(secret.as_bytes()),
            accepted_keys: [Some(secret), previous]
                .into_iter()
                .flatten()
                .map(|secret| DecodingKey::from_secret(secret.as_bytes()))
                .collect(),
            validation,
            ttl_seconds,
        }
    }

    /// Returns the lifetime of a token, in seconds.
    pub fn ttl_seconds(&self) -> i64 {
        self.ttl_seconds
    }

    /// Issues a token for this session.
    pub fn issue(&self, session: Session, now: UtcTime) -> Result<SecretString, Error> {
        let claims = Claims {
            iss: ISSUER_AND_AUDIENCE.to_owned(),
            aud: ISSUER_AND_AUDIENCE.to_owned(),
            sub: session.user_id.to_string(),
            iat: now.unix_seconds(),
            exp: now.unix_seconds().saturating_add(self.ttl_seconds),
            jti: Uuid::new_v4(),
            ver: session.version,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing_key)
            .map(SecretString::from)
            .map_err(Error::internal)
    }

    /// Returns the session of a valid token. The caller must compare its version with that of the account.
    pub fn check(&self, token: &str, now: UtcTime) -> Result<Session, Error> {
        let claims = self
            .accepted_keys
            .iter()
            .find_map(|key| jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok())
            .ok_or(Error::InvalidToken)?
            .claims;
        if now.unix_seconds() >= claims.exp {
            return Err(Error::InvalidToken);
        }
        let user_id = UserId::parse(&claims.sub).ok_or(Error::InvalidToken)?;
        Ok(Session {
            user_id,
            version: claims.ver,
        })
    }
}

/// Cryptography provider of `jsonwebtoken`, with HS256 only. The library's own backends bring every algorithm of JWT,
/// and one of them an RSA with an open advisory (RUSTSEC-2023-0071). An algorithm that is not in the binary cannot be
/// confused with HS256.
static HS256_ONLY: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(Hs256::new(algorithm, key.as_bytes())?)),
    verifier_factory: |algorithm, key| {
        Ok(Box::new(Hs256::new(algorithm, key.try_get_as_bytes()?)?))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(algorithm: &Algorithm, secret: &[u8]) -> jsonwebtoken::errors::Result<Self> {
        if *algorithm != Algorithm::HS256 {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let mac = Hmac::new_from_slice(secret).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(Self(mac))
    }

    fn mac_of(&self, message: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(message)
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.mac_of(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        // `verify_slice` compares in constant time.
        self.mac_of(message)
            .verify_slice(signature)
            .map_err(signature::Error::from_source)
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
