//! What a request shows to prove who sends it.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::domain::error::Error;

/// The header that carries an API key.
const API_KEY_HEADER: &str = "x-api-key";

/// The one credential of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// In `x-api-key`.
    KeyHeader(&'a str),
    /// In `Authorization: Bearer`, and perhaps in `x-api-key` as well.
    Bearer(&'a str),
}

/// Finds the credential. Two different ones are refused: which of them counts would be a guess.
/// Schemes other than Bearer are somebody else's, such as a proxy's.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Option<Presented<'_>>, Error> {
    let in_key_header = headers.get_all(API_KEY_HEADER).map(text);
    let in_bearer = headers.get_all(AUTHORIZATION).map(text).filter_map(bearer);
    let key = only(in_key_header.filter(|key| !key.is_empty()))?;
    let bearer = only(in_bearer.filter(|token| !token.is_empty()))?;
    match (key, bearer) {
        (Some(key), Some(bearer)) if key != bearer => Err(Error::AmbiguousCredentials),
        (_, Some(bearer)) => Ok(Some(Presented::Bearer(bearer))),
        (Some(key), None) => Ok(Some(Presented::KeyHeader(key))),
        (None, None) => Ok(None),
    }
}

/// No credential of ours has a character beyond ASCII: one that cannot be read is a wrong one.
fn text(value: &HeaderValue) -> &str {
    value.to_str().map_or("?", str::trim)
}

/// The token of the scheme `Bearer`, whose case does not matter (RFC 9110 section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn only<'a>(mut values: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, Error> {
    let first = values.next();
    if values.any(|other| Some(other) != first) {
        return Err(Error::AmbiguousCredentials);
    }
    Ok(first)
}
