//! Credentials in the headers of a request.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::domain::error::Error;

/// Header for API keys.
const API_KEY_HEADER: &str = "x-api-key";

/// Credential of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// Credential in `x-api-key`.
    KeyHeader(&'a str),
    /// Credential in `Authorization: Bearer`; the same may also be in `x-api-key`.
    Bearer(&'a str),
}

/// Returns the credential of a request. Two different ones are rejected: a choice between them would be a guess.
/// Schemes other than Bearer are ignored: they are for other layers, such as a proxy.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Option<Presented<'_>>, Error> {
    let in_key_header = headers.get_all(API_KEY_HEADER).map(text);
    let in_bearer = headers.get_all(AUTHORIZATION).map(text).filter_map(bearer);
    let key = single_value(in_key_header.filter(|key| !key.is_empty()))?;
    let bearer = single_value(in_bearer.filter(|token| !token.is_empty()))?;
    match (key, bearer) {
        (Some(key), Some(bearer)) if key != bearer => Err(Error::AmbiguousCredentials),
        (_, Some(bearer)) => Ok(Some(Presented::Bearer(bearer))),
        (Some(key), None) => Ok(Some(Presented::KeyHeader(key))),
        (None, None) => Ok(None),
    }
}

/// Returns the trimmed value. A value that is not visible ASCII becomes `?`, which is not a valid credential.
fn text(value: &HeaderValue) -> &str {
    value.to_str().map_or("?", str::trim)
}

/// Returns the token of the scheme `Bearer`, which is case-insensitive (RFC 9110 section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn single_value<'a>(mut values: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, Error> {
    let first = values.next();
    if values.any(|other| Some(other) != first) {
        return Err(Error::AmbiguousCredentials);
    }
    Ok(first)
}
