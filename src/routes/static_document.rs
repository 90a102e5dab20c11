//! Static document: generated and compressed once, served with an `ETag`.

use std::{io::Read as _, sync::OnceLock};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EntityTag,
        Header as _, HeaderValue, IfNoneMatch, VARY,
    },
    web::{self, Bytes},
};
use flate2::{
    Compression,
    read::{GzDecoder, GzEncoder},
};
use sha2::{Digest as _, Sha256};

use crate::domain::error::Error;

/// Clients may cache the document, and revalidate it at each use.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
const VARY_BY_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Document in its compressed and, on demand, its plain form.
pub(crate) struct StaticDocument {
    content_type: HeaderValue,
    compressed: Bytes,
    /// Decompressed at the first request of a client that does not accept `gzip`.
    plain: OnceLock<Bytes>,
    /// Digest of `compressed`, for the `ETag`.
    digest: String,
}

impl StaticDocument {
    /// Compresses a document.
    pub(crate) fn compress(plain: Vec<u8>, content_type: HeaderValue) -> std::io::Result<Self> {
        let mut compressed = Vec::new();
        GzEncoder::new(&plain[..], Compression::default()).read_to_end(&mut compressed)?;
        let document = Self::compressed(compressed.into(), content_type);
        let _ = document.plain.set(plain.into());
        Ok(document)
    }

    /// Creates a document from its gzip form.
    pub(crate) fn compressed(compressed: Bytes, content_type: HeaderValue) -> Self {
        let digest = Sha256::digest(&compressed);
        Self {
            content_type,
            digest: digest[..16].iter().map(|b| format!("{b:02x}")).collect(),
            compressed,
            plain: OnceLock::new(),
        }
    }

    /// Responds to `GET` with the document in an encoding that the client accepts, or with 304 if the client's copy
    /// is current.
    pub(crate) async fn respond(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        let accepts_gzip = accepts_gzip(request);
        let tag = if accepts_gzip {
            EntityTag::new_strong(format!("{}-gzip", self.digest))
        } else {
            EntityTag::new_strong(self.digest.clone())
        };
        let is_current = IfNoneMatch::parse(request).is_ok_and(|condition| match condition {
            IfNoneMatch::Any => true,
            IfNoneMatch::Items(tags) => tags.iter().any(|cached| cached.weak_eq(&tag)),
        });
        let mut response = if is_current {
            HttpResponse::NotModified()
        } else {
            HttpResponse::Ok()
        };
        response
            .insert_header((ETAG, tag.to_string()))
            .insert_header((CACHE_CONTROL, REVALIDATED))
            .insert_header((VARY, VARY_BY_ENCODING));
        if is_current {
            return Ok(response.finish());
        }
        response.insert_header((CONTENT_TYPE, self.content_type.clone()));
        if accepts_gzip {
            response.insert_header((CONTENT_ENCODING, GZIP));
            return Ok(response.body(self.compressed.clone()));
        }
        Ok(response.body(self.plain().await?))
    }

    async fn plain(&self) -> Result<Bytes, Error> {
        if let Some(plain) = self.plain.get() {
            return Ok(plain.clone());
        }
        let compressed = self.compressed.clone();
        let plain = web::block(move || {
            let mut plain = Vec::new();
            GzDecoder::new(&compressed[..]).read_to_end(&mut plain)?;
            std::io::Result::Ok(Bytes::from(plain))
        });
        let plain = plain
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)?;
        Ok(self.plain.get_or_init(|| plain).clone())
    }
}

/// Returns whether the client prefers `gzip` to no encoding, or has no preference (RFC 9110 section 12.5.3).
fn accepts_gzip(request: &HttpRequest) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    let fields = request.headers().get_all(ACCEPT_ENCODING);
    let fields = fields.filter_map(|value| value.to_str().ok());
    for coding in fields.flat_map(|value| value.split(',')) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = match weight.split_once('=') {
            Some((_, weight)) => weight.trim().parse().unwrap_or(0.0),
            None => 1.0f32,
        };
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => gzip = Some(weight),
            name if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}
