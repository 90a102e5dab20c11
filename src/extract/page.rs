//! Which page of a list, and how the next one is found.

use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::decode::from_query;
use crate::core::{
    error::Error,
    id::{ApiKeyId, UserId},
};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;

/// A query string that nobody has read yet.
pub(crate) struct QueryString {
    path: String,
    query: String,
}

impl FromRequest for QueryString {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self {
            path: request.path().to_owned(),
            query: request.query_string().to_owned(),
        }))
    }
}

impl QueryString {
    /// Its parameters. One that `T` does not know is refused.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        from_query(&self.query)
    }

    /// The page of `owner`'s list that `limit` and `cursor` ask for.
    pub(crate) fn page(
        &self,
        owner: UserId,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Page, Error> {
        let limit = match limit.map(str::parse) {
            None => DEFAULT_LIMIT,
            Some(Ok(limit @ 1..=MAX_LIMIT)) => limit,
            Some(_) => return Err(Error::invalid_field("?limit", "must be 1 to 100")),
        };
        let before = cursor
            .map(|cursor| read_cursor(cursor, &self.path, owner))
            .transpose()?;
        Ok(Page {
            path: self.path.clone(),
            owner,
            limit,
            before,
        })
    }
}

/// One page of somebody's list, newest first.
pub(crate) struct Page {
    path: String,
    owner: UserId,
    limit: usize,
    /// The last one of the page before.
    pub before: Option<ApiKeyId>,
}

impl Page {
    /// How many rows to ask for: one more than are shown, to know whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// Cuts `rows` to the page, and answers the `Link` header (RFC 8288) to the next if there is one.
    pub(crate) fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> ApiKeyId) -> Option<String> {
        if rows.len() <= self.limit {
            return None;
        }
        rows.truncate(self.limit);
        let cursor = make_cursor(id(rows.last()?), &self.path, self.owner);
        let (path, limit) = (&self.path, self.limit);
        Some(format!(
            "<{path}?limit={limit}&cursor={cursor}>; rel=\"next\""
        ))
    }
}

/// The id and a tag that only this list of this owner has. No secret stands in it, and none needs
/// to: a forged cursor reaches nothing but the forger's own list.
fn make_cursor(id: ApiKeyId, list: &str, owner: UserId) -> String {
    let mut bytes = id.0.as_bytes().to_vec();
    bytes.extend(tag(id, list, owner));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(cursor: &str, list: &str, owner: UserId) -> Result<ApiKeyId, Error> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(cursor)
        .map_err(|_| Error::InvalidCursor)?;
    let (id, given) = bytes.split_at_checked(16).ok_or(Error::InvalidCursor)?;
    let id = ApiKeyId(Uuid::from_slice(id).map_err(|_| Error::InvalidCursor)?);
    if given != tag(id, list, owner) {
        return Err(Error::InvalidCursor);
    }
    Ok(id)
}

fn tag(id: ApiKeyId, list: &str, owner: UserId) -> [u8; 8] {
    let digest = Sha256::new()
        .chain_update(id.0)
        .chain_update(owner.0)
        .chain_update(list)
        .finalize();
    let mut tag = [0; 8];
    tag.copy_from_slice(&digest[..8]);
    tag
}
