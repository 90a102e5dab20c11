//! Request body, which is read when the handler asks for it.

use std::{
    future::{Ready, ready},
    rc::Rc,
};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    http::header::CONTENT_LENGTH,
    web::{Bytes, Payload},
};
use serde::de::DeserializeOwned;

use super::decode::{from_form, from_json};
use crate::{
    config::BodyLimits,
    connection::state::{BodyFault, ConnectionState},
    domain::error::Error,
};

/// Request body that has not been read yet.
pub(crate) struct Body {
    request: HttpRequest,
    payload: Payload,
}

/// Media type of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    MergePatch,
    Form,
}

impl FromRequest for Body {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut actix_web::dev::Payload) -> Self::Future {
        let payload = Payload::from_request(request, payload).into_inner();
        ready(payload.map(|payload| Self {
            request: request.clone(),
            payload,
        }))
    }
}

impl Body {
    /// Returns the media type in `Content-Type` if any endpoint accepts it.
    pub(crate) fn media_type(&self) -> Option<MediaType> {
        let content_type = self.request.content_type();
        [
            ("application/json", MediaType::Json),
            ("application/merge-patch+json", MediaType::MergePatch),
            ("application/x-www-form-urlencoded", MediaType::Form),
        ]
        .into_iter()
        .find(|(name, _)| content_type.eq_ignore_ascii_case(name))
        .map(|(_, media_type)| media_type)
    }

    /// Reads a JSON body, which is required.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.require_json()?;
        from_json(&self.bytes().await?)
    }

    /// Reads a JSON body that may be omitted or `null`.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(self) -> Result<T, Error> {
        let media_type = self.require_json();
        if self.content_length() > Some(0) {
            // There is a body: check the media type before reading it.
            media_type.clone()?;
        }
        match (media_type, self.bytes().await) {
            (_, Ok(bytes)) if bytes.is_empty() => Ok(T::default()),
            (Err(wrong_type), _) => Err(wrong_type),
            (Ok(()), bytes) => from_json::<Option<T>>(&bytes?).map(Option::unwrap_or_default),
        }
    }

    /// Reads a JSON merge patch (RFC 7396), which is required.
    pub(crate) async fn merge_patch<T: DeserializeOwned>(self) -> Result<T, Error> {
        match self.media_type() {
            Some(MediaType::Json | MediaType::MergePatch) => from_json(&self.bytes().await?),
            _ => Err(Error::UnsupportedMediaType(
                "application/merge-patch+json or application/json",
            )),
        }
    }

    /// Reads a form. The caller has checked the media type.
    pub(crate) async fn form<T: DeserializeOwned>(self) -> Result<T, Error> {
        from_form(&self.bytes().await?)
    }

    fn require_json(&self) -> Result<(), Error> {
        match self.media_type() {
            Some(MediaType::Json) => Ok(()),
            _ => Err(Error::UnsupportedMediaType("application/json")),
        }
    }

    /// Returns the value of `Content-Length`, if there is one.
    fn content_length(&self) -> Option<u64> {
        let length = self.request.headers().get(CONTENT_LENGTH)?;
        length.to_str().ok()?.parse().ok()
    }

    async fn bytes(self) -> Result<Bytes, Error> {
        let limits = self.request.app_data().copied();
        let BodyLimits { bytes, time } = limits.unwrap_or(BodyLimits::DEFAULT);
        if self.content_length() > Some(bytes as u64) {
            return Err(Error::PayloadTooLarge(bytes));
        }
        let connection_state = self.request.conn_data::<Rc<ConnectionState>>();
        if let Some(connection_state) = connection_state {
            connection_state.body_requested();
        }
        let body = self.payload.to_bytes_limited(bytes);
        tokio::time::timeout(time, body)
            .await
            .map_err(|_| Error::BodyTooSlow)?
            .map_err(|_| Error::PayloadTooLarge(bytes))?
            .map_err(|_| match connection_state.and_then(|c| c.body_fault()) {
                Some(BodyFault::TooLarge) => Error::PayloadTooLarge(bytes),
                Some(BodyFault::Malformed) => Error::InvalidRequest(
                    "The chunked coding of the request body is malformed (RFC 9112 section 7.1)."
                        .into(),
                ),
                None => Error::InvalidRequest("The request body could not be read.".into()),
            })
    }
}
