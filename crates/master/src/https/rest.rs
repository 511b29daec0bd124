//! What is left of a request's body once it is refused.
//!
//! Over HTTP/2 an answer may end before its request does, and the stream is then reset without an error. Clients have
//! it, curl 7 among them, that take the reset for a failure and show no answer at all. Over HTTP/1.1 the connection ends
//! instead, and who writes on it still may never read. So what still comes of a refused request is read and thrown away
//! behind the answer, and the stream is reset when a client that reads has had it for long; not for ever, for what is
//! thrown away was asked for by nobody.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{Version, header::EXPECT},
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Bytes that are thrown away, and for how long they are waited for.
const BYTES_MAX: usize = 16 * 1024 * 1024;
const WITHIN: Duration = Duration::from_secs(2);

/// Answers at once, and has what a refused request still sends read.
pub(super) async fn read_away(request: Request, next: Next) -> Response {
    // who waits for a word before the body sends none to a refusal, and to read it would be that word
    let waits = request.version() == Version::HTTP_11 && request.headers().contains_key(EXPECT);
    if waits || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(body)));
    let mut rest = body.clone();
    let answer = next.run(Request::from_parts(head, Body::new(body))).await;
    let is_refusal = answer.status().is_client_error() || answer.status().is_server_error();
    if is_refusal && !rest.is_end_stream() {
        // until this is over the stream is among those that its connection may have, and an HTTP/1.1 one takes no other
        tokio::spawn(async move {
            let reading = async {
                let mut bytes = 0;
                while bytes < BYTES_MAX {
                    match rest.frame().await {
                        Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                        Some(Err(_)) | None => return,
                    }
                }
            };
            tokio::time::timeout(WITHIN, reading).await.ok();
        });
    }
    answer
}

/// A body that is read by whoever answers, and then by us.
#[derive(Clone)]
struct Shared(Arc<Mutex<Body>>);

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{
        Router,
        http::{HeaderValue, StatusCode},
        middleware::from_fn,
    };
    use futures_util::{Stream, StreamExt as _, stream};
    use tokio::sync::mpsc;
    use tower::ServiceExt as _;

    use super::*;

    const PIECE_BYTES: usize = 16 * 1024;

    /// Pieces that were taken of a request that nobody reads, until it was let go.
    async fn taken(
        (version, waits): (Version, bool),
        status: StatusCode,
        pieces: impl Stream<Item = ()> + Send + 'static,
    ) -> usize {
        // closed when the body is let go
        let (sender, mut count) = mpsc::unbounded_channel();
        let pieces = pieces.map(move |()| {
            sender.send(()).unwrap();
            Ok::<_, Infallible>(vec![0; PIECE_BYTES])
        });
        let app = Router::new().fallback(move || async move { status }).layer(from_fn(read_away));
        let mut request = Request::new(Body::from_stream(pieces));
        *request.version_mut() = version;
        if waits {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        let answer = app.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status);
        let mut taken = 0;
        while count.recv().await.is_some() {
            taken += 1;
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_request_still_sends_is_read_within_bounds() {
        const REFUSED: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;
        const H2: (Version, bool) = (Version::HTTP_2, false);
        let three = || stream::iter([(); 3]);
        assert_eq!(taken(H2, REFUSED, three()).await, 3);
        assert_eq!(taken((Version::HTTP_11, false), REFUSED, three()).await, 3);
        assert_eq!(taken((Version::HTTP_11, true), REFUSED, three()).await, 0, "it is not sent");
        assert_eq!(taken(H2, StatusCode::OK, three()).await, 0, "no refusal");
        let endless = || stream::iter(std::iter::repeat(()));
        assert_eq!(taken(H2, REFUSED, endless()).await, BYTES_MAX / PIECE_BYTES);
        let frozen = stream::iter([()]).chain(stream::pending());
        assert_eq!(taken(H2, REFUSED, frozen).await, 1, "it is not waited for long");
    }
}
