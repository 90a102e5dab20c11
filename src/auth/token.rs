//! User tokens: JWTs (RFC 7519), signed with HMAC-SHA256 and with nothing else.

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

/// Who issues the tokens, and whom they are for.
const NAME: &str = "latchkey";

/// Issues tokens and checks them.
pub struct TokenAuthority {
    issue_with: EncodingKey,
    accept: Vec<DecodingKey>,
    validation: Validation,
    ttl_seconds: i64,
}

/// Whose token it is, and under which session version it was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub user_id: UserId,
    pub version: i64,
}

/// Every claim is required, of exactly this type.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    jti: Uuid,
    /// The account's session version: tokens of an earlier one have been ended.
    ver: i64,
}

impl TokenAuthority {
    /// Issues with `secret`; accepts that one and the `previous`.
    pub fn new(secret: &JwtSecret, previous: Option<&JwtSecret>, ttl_seconds: i64) -> Self {
        // Fails only when it is installed already, as by the test before.
        let _ = HS256_ONLY.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[NAME]);
        validation.set_audience(&[NAME]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked below, by the service's own clock and without leeway.
        validation.validate_exp = false;
        Self {
            issue_with: EncodingKey::from_secret(secret.as_bytes()),
            accept: [Some(secret), previous]
                .into_iter()
                .flatten()
                .map(|secret| DecodingKey::from_secret(secret.as_bytes()))
                .collect(),
            validation,
            ttl_seconds,
        }
    }

    /// How long a token lasts.
    pub fn ttl_seconds(&self) -> i64 {
        self.ttl_seconds
    }

    /// A token for this session.
    pub fn issue(&self, session: Session, now: UtcTime) -> Result<SecretString, Error> {
        let claims = Claims {
            iss: NAME.to_owned(),
            aud: NAME.to_owned(),
            sub: session.user_id.to_string(),
            iat: now.unix_seconds(),
            exp: now.unix_seconds().saturating_add(self.ttl_seconds),
            jti: Uuid::new_v4(),
            ver: session.version,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.issue_with)
            .map(SecretString::from)
            .map_err(Error::internal)
    }

    /// The session that a token stands for. Whether it has been ended since, the account knows.
    pub fn check(&self, token: &str, now: UtcTime) -> Result<Session, Error> {
        let claims = self
            .accept
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

/// All the cryptography that `jsonwebtoken` is given. Its own backends bring every algorithm that JWT
/// knows, and one of them an RSA with an open advisory (RUSTSEC-2023-0071); what is not in the binary
/// cannot be confused with HS256.
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

    fn over(&self, message: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(message)
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.over(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        // In constant time.
        self.over(message)
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
