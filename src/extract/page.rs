//! Query strings, and the pagination of lists with cursors.

use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use form_urlencoded::Serializer;
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;
use uuid::Uuid;

use super::decode::from_query;
use crate::domain::{
    error::Error,
    id::{Id, UserId},
};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;

/// Query string that has not been parsed yet.
pub(crate) struct QueryString {
    path: String,
    query: String,
}

/// Query parameters for the pages of a list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListPage {
    /// Maximum number of items on the page.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// Position at which the page starts: from the `Link` header of the previous page.
    cursor: Option<String>,
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
    /// Returns the query string as sent.
    pub(crate) fn as_str(&self) -> &str {
        &self.query
    }

    /// Parses the whole query string. A parameter that `T` does not have is rejected.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        from_query(&self.query)
    }

    /// Parses the query string in two parts: the parameters with these names into `U`, all others into `T`.
    pub(crate) fn read_parts<T: DeserializeOwned, U: DeserializeOwned>(
        &self,
        names: &[&str],
    ) -> Result<(T, U), Error> {
        let (first, second) = self.split(names);
        Ok((from_query(&first)?, from_query(&second)?))
    }

    fn split(&self, names: &[&str]) -> (String, String) {
        let (mut first, mut second) = (new_query(), new_query());
        for (name, value) in form_urlencoded::parse(self.query.as_bytes()) {
            let part = if names.contains(&&*name) {
                &mut second
            } else {
                &mut first
            };
            part.append_pair(&name, &value);
        }
        (first.finish(), second.finish())
    }

    /// Parses the filter of a list and the requested page. A parameter that neither `F` nor [`ListPage`] has is
    /// rejected.
    pub(crate) fn list<F: DeserializeOwned, I: Id>(
        &self,
        reader: UserId,
    ) -> Result<(F, Page<I>), Error> {
        let (filter_query, page) = self.split(&["limit", "cursor"]);
        let filter = from_query(&filter_query)?;
        let ListPage { limit, cursor } = from_query(&page)?;
        let limit = match limit.as_deref().map(str::parse) {
            None => DEFAULT_LIMIT,
            Some(Ok(limit @ 1..=MAX_LIMIT)) => limit,
            Some(_) => return Err(Error::invalid_field("?limit", "must be 1 to 100")),
        };
        let before = cursor
            .map(|cursor| read_cursor(&cursor, &self.path, reader))
            .transpose()?;
        let page = Page {
            path: self.path.clone(),
            filter_query,
            reader,
            limit,
            before,
        };
        Ok((filter, page))
    }
}

fn new_query() -> Serializer<'static, String> {
    Serializer::new(String::new())
}

/// Page of a list, newest first.
pub(crate) struct Page<I> {
    path: String,
    filter_query: String,
    reader: UserId,
    limit: usize,
    /// Id of the last item on the previous page.
    pub before: Option<I>,
}

impl<I: Id> Page<I> {
    /// Returns the number of rows to query: one more than the page has, to see whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// Truncates `rows` to the page. Returns the `Link` header (RFC 8288) to the next page if there is one.
    pub(crate) fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> I) -> Option<String> {
        if rows.len() <= self.limit {
            return None;
        }
        rows.truncate(self.limit);
        let last = id(rows.last()?).uuid();
        let mut query = Serializer::new(self.filter_query.clone());
        query.append_pair("limit", &self.limit.to_string());
        query.append_pair("cursor", &make_cursor(last, &self.path, self.reader));
        Some(format!("<{}?{}>; rel=\"next\"", self.path, query.finish()))
    }
}

/// Creates a cursor: the id, and a tag that depends on the list and the reader. It contains no secret and needs none: a
/// forged cursor gives access only to what its sender may see anyway.
fn make_cursor(id: Uuid, list: &str, reader: UserId) -> String {
    let mut bytes = id.as_bytes().to_vec();
    bytes.extend(tag(id, list, reader));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor<I: Id>(cursor: &str, list: &str, reader: UserId) -> Result<I, Error> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(cursor)
        .map_err(|_| Error::InvalidCursor)?;
    let (id, given) = bytes.split_at_checked(16).ok_or(Error::InvalidCursor)?;
    let id = Uuid::from_slice(id).map_err(|_| Error::InvalidCursor)?;
    if given != tag(id, list, reader) {
        return Err(Error::InvalidCursor);
    }
    Ok(I::from_uuid(id))
}

fn tag(id: Uuid, list: &str, reader: UserId) -> [u8; 8] {
    let digest = Sha256::new()
        .chain_update(id)
        .chain_update(reader.0)
        .chain_update(list)
        .finalize();
    let mut tag = [0; 8];
    tag.copy_from_slice(&digest[..8]);
    tag
}
