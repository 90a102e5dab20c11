//! Validation of user tokens (JWT): claims, algorithm, signature and expiry.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    on_both_databases,
    support::{Client, TestServer},
};

/// JWT secret of the test servers.
pub const SECRET: &str = "a-secret-for-tests-and-only-for-tests";

pub fn sign(header: &Value, claims: &Value, secret: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    format!("{message}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

fn encode(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

pub fn hs256() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

/// Returns the claims of a valid token of this account, for tests that modify them.
pub fn claims_of(user: &Client) -> Value {
    let id = user.get("/auth/me").json()["id"].clone();
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).timestamp();
    json!({
        "iss": "latchkey", "aud": "latchkey", "sub": id, "iat": now, "exp": now + 600,
        "jti": uuid::Uuid::new_v4(), "ver": 1,
    })
}

fn status(server: &TestServer, token: &str) -> u16 {
    let reply = server.anonymous().with_token(token).get("/auth/me");
    if reply.status != 200 {
        reply.assert_problem(401, "invalid_token");
    }
    reply.status
}

on_both_databases! {
    token_with_every_claim_and_a_valid_signature_is_accepted,
    token_with_a_missing_or_invalid_claim_is_rejected,
    token_with_another_algorithm_is_rejected,
    token_with_an_invalid_signature_is_rejected,
    token_is_rejected_from_its_expiry_on,
    token_of_an_unknown_account_is_rejected,
}

fn token_with_every_claim_and_a_valid_signature_is_accepted(server: TestServer) {
    let claims = claims_of(&server.user("ada@example.com"));
    assert_eq!(status(&server, &sign(&hs256(), &claims, SECRET)), 200);
}

fn token_with_a_missing_or_invalid_claim_is_rejected(server: TestServer) {
    let valid = claims_of(&server.user("ada@example.com"));
    for claim in ["iss", "aud", "sub", "iat", "exp", "jti", "ver"] {
        for other in [
            None,
            Some(json!("1")),
            Some(json!(null)),
            Some(json!(["latchkey"])),
            Some(json!(-1)),
        ] {
            let mut claims = valid.clone();
            if (claim, &other) == ("iat", &Some(json!(-1))) {
                continue;
            }
            match &other {
                None => claims.as_object_mut().unwrap().remove(claim),
                Some(value) => claims
                    .as_object_mut()
                    .unwrap()
                    .insert(claim.to_owned(), value.clone()),
            };
            let token = sign(&hs256(), &claims, SECRET);
            assert_eq!(status(&server, &token), 401, "{claim}: {other:?}");
        }
    }
}

fn token_with_another_algorithm_is_rejected(server: TestServer) {
    let claims = claims_of(&server.user("ada@example.com"));
    let message = format!("{}.{}", encode(&json!({"alg": "none"})), encode(&claims));
    assert_eq!(status(&server, &format!("{message}.")), 401);
    assert_eq!(status(&server, &message), 401);
    let valid = sign(&hs256(), &claims, SECRET);
    let signature = valid.rsplit('.').next().unwrap();
    assert_eq!(status(&server, &format!("{message}.{signature}")), 401);
    for algorithm in [
        "none", "None", "HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256",
    ] {
        let header = json!({"alg": algorithm, "typ": "JWT"});
        assert_eq!(
            status(&server, &sign(&header, &claims, SECRET)),
            401,
            "{algorithm}"
        );
    }
}

fn token_with_an_invalid_signature_is_rejected(server: TestServer) {
    let claims = claims_of(&server.user("ada@example.com"));
    let other_secret = "another-secret-for-tests-and-only-for-tests";
    assert_eq!(status(&server, &sign(&hs256(), &claims, other_secret)), 401);
    let valid = sign(&hs256(), &claims, SECRET);
    let (message, _) = valid.rsplit_once('.').unwrap();
    for token in [
        message.to_owned(),
        format!("{message}."),
        format!("{message}.AAAA"),
        format!("{valid}A"),
        format!("{valid}.{valid}"),
        "..".to_owned(),
        "garbage".to_owned(),
    ] {
        assert_eq!(status(&server, &token), 401, "{token}");
    }
}

fn token_is_rejected_from_its_expiry_on(server: TestServer) {
    let ada = server.user("ada@example.com");
    server.advance(std::time::Duration::from_secs(3590));
    assert_eq!(ada.get("/auth/me").status, 200);
    server.advance(std::time::Duration::from_secs(10));
    ada.get("/auth/me").assert_problem(401, "invalid_token");
}

fn token_of_an_unknown_account_is_rejected(server: TestServer) {
    let mut claims = claims_of(&server.user("ada@example.com"));
    claims["sub"] = json!(uuid::Uuid::now_v7());
    assert_eq!(status(&server, &sign(&hs256(), &claims, SECRET)), 401);
}

#[test]
fn previous_secret_verifies_tokens_and_signs_none() {
    const NEW: &str = "the-next-secret-for-tests-and-only-for-tests";
    let server = TestServer::on_sqlite(|config| {
        config.jwt_secret = Some(NEW.parse().unwrap());
        config.jwt_secret_previous = Some(SECRET.parse().unwrap());
    });
    let claims = claims_of(&server.user("ada@example.com"));
    for (secret, expected) in [
        (NEW, 200),
        (SECRET, 200),
        ("neither-the-one-nor-the-other-secret", 401),
    ] {
        assert_eq!(status(&server, &sign(&hs256(), &claims, secret)), expected);
    }
    let credentials = json!({"email": "ada@example.com", "password": crate::support::PASSWORD});
    let issued = server.anonymous().post_json("/auth/login", &credentials);
    let issued = issued.text("access_token");
    let (message, signature) = issued.rsplit_once('.').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(NEW.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    assert_eq!(signature, BASE64.encode(mac.finalize().into_bytes()));
}
