//! Requests on their way in. A message is read whole before anybody can be asked whether the caller may say it,
//! so whoever can connect can make the master hold memory: what all of them hold together is bounded, and so is the
//! time for a request to arrive. The streams are not in it: they have bounds of their own (`sessions`).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Request,
    body::{Body as _, Bytes, Frame, SizeHint},
};
use piccolo_core::api_server::{Code, Refusal};
use piccolo_rpc::{status, tls::acceptor::PeerInfo};
use tokio::time::{Instant, Sleep};
use tonic::{Status, body::Body};

/// From the head of a request to its last byte.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// Bytes that every request may have beside what is bounded in all: the large ones of some cannot keep the small
/// calls of others out.
const SMALL_BYTES: usize = 4 * 1024;
/// Bytes of one request of a caller without a certificate: a registration with all its labels is smaller.
const STRANGERS_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all requests that are arriving from callers without a certificate: hundreds of registrations.
const STRANGERS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of all requests that are arriving from callers with one: two dozen of the largest.
const MEMBERS_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Calls whose request is a stream that goes on.
const STREAMS: [&str; 2] = [
    "/piccolo.v1.NodeAgentService/Session",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// What is arriving, of all connections.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    strangers: Arc<Room>,
    members: Arc<Room>,
}

/// Bytes that may still be held.
#[derive(Debug)]
struct Room(AtomicUsize);

impl Default for Arrivals {
    fn default() -> Self {
        let room = |bytes| Arc::new(Room(AtomicUsize::new(bytes)));
        Self { strangers: room(STRANGERS_BYTES_MAX), members: room(MEMBERS_BYTES_MAX) }
    }
}

impl Arrivals {
    /// The same request, whose body ends with an error where it is too late or too much.
    pub(super) fn bounded(&self, request: Request<Body>) -> Request<Body> {
        if STREAMS.contains(&request.uri().path()) || request.body().is_end_stream() {
            return request;
        }
        let peer = request.extensions().get::<PeerInfo>();
        let is_member = peer.is_some_and(|peer| peer.identity.is_some());
        let (room, bytes_max) = if is_member {
            // the decoder refuses what is larger, and says by how much
            (Arc::clone(&self.members), usize::MAX)
        } else {
            (Arc::clone(&self.strangers), STRANGERS_REQUEST_BYTES_MAX)
        };
        let until = Instant::now() + ARRIVES_WITHIN;
        request.map(|body| {
            Body::new(Arriving { body, until, overdue: None, room, bytes: 0, held: 0, bytes_max })
        })
    }
}

/// The body of one request.
struct Arriving {
    body: Body,
    until: Instant,
    /// Made when there is something to wait for: most requests come in one piece.
    overdue: Option<Pin<Box<Sleep>>>,
    room: Arc<Room>,
    /// Of it so far, and how many of them were taken from the room.
    bytes: usize,
    held: usize,
    bytes_max: usize,
}

impl Arriving {
    fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let refuse =
            |message: String| Refusal::new(Code::ResourceExhausted, "TooManyBytes", message);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            let message = format!("more than {} bytes without a certificate", self.bytes_max);
            return Err(refuse(message));
        }
        let more = self.bytes.saturating_sub(SMALL_BYTES) - self.held;
        let take = |left: usize| left.checked_sub(more);
        if self.room.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            let message = "the master holds as much as it can of requests that are not complete";
            return Err(refuse(message.to_owned()).help("try again in some seconds"));
        }
        self.held += more;
        Ok(())
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let until = self.until;
        let overdue = self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        overdue.as_mut().poll(context).map(|()| {
            let within = ARRIVES_WITHIN.as_secs();
            Status::deadline_exceeded(format!("the request was not complete within {within} s"))
        })
    }
}

impl hyper::body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(context) else {
            return self.poll_overdue(context).map(|status| Some(Err(status)));
        };
        if let Some(Ok(frame)) = &next
            && let Some(data) = frame.data_ref()
            && let Err(refusal) = self.hold(data.len())
        {
            return Poll::Ready(Some(Err(status::status(&refusal))));
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.room.0.fetch_add(self.held, Ordering::Relaxed);
    }
}
