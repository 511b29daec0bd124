//! What is left of a request's body once it is answered.
//!
//! Over HTTP/2 an answer may end before its request does, and the stream is then reset without an error. Clients have
//! it, curl 7 among them, that take the reset for a failure and show no answer at all. So what still comes of a refused
//! request is read and thrown away first; not for long, and not if it is much.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::Version,
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Bytes that are thrown away, and for how long they are waited for.
const BYTES_MAX: usize = 1024 * 1024;
const WITHIN: Duration = Duration::from_secs(2);

/// Answers once the request is over, where it is over soon.
pub(super) async fn read_away(request: Request, next: Next) -> Response {
    if request.version() != Version::HTTP_2 || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(body)));
    let mut rest = body.clone();
    let answer = next.run(Request::from_parts(head, Body::new(body))).await;
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
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, http::StatusCode, middleware::from_fn};
    use futures_util::{Stream, StreamExt as _, stream};
    use tower::ServiceExt as _;

    use super::*;

    const PIECE_BYTES: usize = 16 * 1024;

    /// Pieces that were taken of a request that nobody wants, once it is refused.
    async fn taken(version: Version, pieces: impl Stream<Item = ()> + Send + 'static) -> usize {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let pieces = pieces.map(move |()| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(vec![0; PIECE_BYTES])
        });
        let app =
            Router::new().fallback(|| async { StatusCode::NOT_FOUND }).layer(from_fn(read_away));
        let mut request = Request::new(Body::from_stream(pieces));
        *request.version_mut() = version;
        let answer = app.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        count.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_comes_when_its_request_is_over() {
        let three = || stream::iter([(); 3]);
        assert_eq!(taken(Version::HTTP_2, three()).await, 3);
        assert_eq!(taken(Version::HTTP_11, three()).await, 0, "hyper does it there");
        let endless = || stream::iter(std::iter::repeat(()));
        assert_eq!(taken(Version::HTTP_2, endless()).await, BYTES_MAX / PIECE_BYTES);
        let frozen = stream::iter([()]).chain(stream::pending());
        assert_eq!(taken(Version::HTTP_2, frozen).await, 1, "it is not waited for long");
    }
}
