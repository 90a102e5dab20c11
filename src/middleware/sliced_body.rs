//! Response body that is passed to the HTTP library in slices, if it is large.
//!
//! The library copies each chunk of a body into its write buffer, and keeps the buffer's memory on an idle connection.
//! With slices, the buffer never exceeds its limit by more than one slice.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpResponse,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    web::Bytes,
};

/// Size of a slice, in bytes.
const SLICE: usize = 16 * 1024;

struct SlicedBody(Bytes);

impl MessageBody for SlicedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let count = self.0.len().min(SLICE);
        let slice = (count > 0).then(|| Ok(self.0.split_to(count)));
        Poll::Ready(slice)
    }
}

/// Wraps a large body into one that yields slices, if it is available as a whole.
pub(super) fn sliced<B: MessageBody + 'static>(
    response: HttpResponse<EitherBody<B>>,
) -> HttpResponse<EitherBody<B>> {
    match response.body().size() {
        BodySize::Sized(length) if length > SLICE as u64 => {
            response.map_body(|_, body| match body.try_into_bytes() {
                Ok(bytes) => EitherBody::right(BoxBody::new(SlicedBody(bytes))),
                Err(body) => body,
            })
        }
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn large_body_is_yielded_completely_in_slices() {
        let text: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let body: EitherBody<Bytes> = EitherBody::left(Bytes::from(text.clone()));
        let mut body = sliced(HttpResponse::Ok().message_body(body).unwrap()).into_body();
        assert_eq!(body.size(), BodySize::Sized(100_000));
        let mut joined = Vec::new();
        while let Some(part) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            let part = part.map_err(|error| error.to_string()).unwrap();
            assert!(part.len() <= SLICE);
            joined.extend_from_slice(&part);
        }
        assert!(joined == text);
    }
}
