//! Watching by server-sent events: the same watches as gRPC's, bounded and cut off like them.
//!
//! Each event's id is where it stands: a browser that lost its connection says the last one by itself
//! (`Last-Event-ID`), and misses nothing. While nothing happens a comment is sent, by which a proxy and the browser know
//! that the connection lives; then it is also looked at whether whoever watches still may.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt as _, stream};
use piccolo_rpc::{
    v1::{self, api_server_service_server::ApiServerService as _},
    view::{event::WatchEventView, node::WatchView},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::Status;

use super::{
    asker::{Asker, Params},
    problem::{Problem, Problems},
    reads::SeverityParam,
};

/// Between two comments, and two looks at whether the watcher still may.
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// For a browser, until it connects again.
const RETRY_MS: u32 = 2_000;

/// Which nodes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WatchNodesParams {
    /// As for the list.
    filter: Option<String>,
    /// What came after this revision; absent: every node first. `Last-Event-ID` goes before it.
    from: Option<u64>,
}

/// Every node, and then each change, as it happens.
#[utoipa::path(
    get,
    path = "/watch/nodes",
    tag = "watches",
    params(WatchNodesParams, ("Last-Event-ID" = Option<u64>, Header, description = "Go on behind it.")),
    responses(
        (status = 200, description = "Events `changed`, `removed`, `snapshot_begin` and `snapshot_end`; an `error` is the last.", body = WatchView, content_type = "text/event-stream"),
        Problems
    )
)]
pub(super) async fn watch_nodes(
    asker: Asker,
    Params(params): Params<WatchNodesParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let from_revision = last_event_id(&headers)?.or(params.from).unwrap_or(0);
    let request = asker.request(v1::WatchNodesRequest { filter: params.filter, from_revision });
    let items = asker.api.watch_nodes(request).await?.into_inner();
    Ok(streamed(asker, items, |message| {
        let view = WatchView::of(message)?;
        // within a snapshot no place to go on from has come yet
        let (name, id) = match &view {
            WatchView::Changed { .. } => ("changed", Some(message.revision)),
            WatchView::Removed { .. } => ("removed", Some(message.revision)),
            WatchView::SnapshotBegin { .. } => ("snapshot_begin", None),
            WatchView::SnapshotEnd { .. } => ("snapshot_end", Some(message.revision)),
        };
        Some(event(name, id, &view))
    }))
}

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WatchEventsParams {
    /// What came after this event; absent: only what happens from now on. `Last-Event-ID` goes before it.
    after: Option<u64>,
    /// Of one node, by id or name.
    node: Option<String>,
    /// At least so severe.
    #[param(inline)]
    severity: Option<SeverityParam>,
}

/// Events, as they happen.
#[utoipa::path(
    get,
    path = "/watch/events",
    tag = "watches",
    params(WatchEventsParams, ("Last-Event-ID" = Option<u64>, Header, description = "Go on behind it.")),
    responses(
        (status = 200, description = "Events `event` and `missed`; an `error` is the last.", body = WatchEventView, content_type = "text/event-stream"),
        Problems
    )
)]
pub(super) async fn watch_events(
    asker: Asker,
    Params(params): Params<WatchEventsParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers)?.or(params.after);
    let request = asker.request(v1::WatchEventsRequest {
        after_id: after.unwrap_or(0),
        from_now: after.is_none(),
        node: params.node.unwrap_or_default(),
        minimum_severity: SeverityParam::wire(params.severity),
    });
    let items = asker.api.watch_events(request).await?.into_inner();
    Ok(streamed(asker, items, |message| {
        use v1::watch_events_response::Item;
        Some(match message.item.as_ref()? {
            Item::Event(happened) => {
                let view = WatchEventView::Event { event: happened.into() };
                event("event", Some(happened.id), &view)
            }
            Item::Missed(missed) => {
                let (first_id, last_id) = (missed.first_id, missed.last_id);
                event("missed", Some(last_id), &WatchEventView::Missed { first_id, last_id })
            }
        })
    }))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| id.parse().ok());
    id.map(Some).ok_or_else(|| {
        let detail = "Last-Event-ID: is no number that was given out here";
        Problem::new(StatusCode::BAD_REQUEST, "InvalidField", detail).field("Last-Event-ID")
    })
}

/// One event. What is JSON has no line ends, so nothing that a node says can begin another.
fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n")
}

/// The watch as a body that ends with it. Nothing is read of the watch before the reader has taken what came before.
fn streamed<T: Send + 'static>(
    asker: Asker,
    items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    shown: impl Fn(&T) -> Option<String> + Send + 'static,
) -> Response {
    let begin = stream::iter([format!("retry: {RETRY_MS}\n\n")]);
    let state = Some((Box::pin(items), asker, shown, Instant::now() + BEAT_EVERY));
    let rest = stream::unfold(state, async |state| {
        let (mut items, asker, shown, look_at) = state?;
        loop {
            // also where something happens all the time
            let next = if Instant::now() < look_at {
                tokio::time::timeout_at(look_at, items.next()).await.ok()
            } else {
                None
            };
            let over = match next {
                Some(None) => return None,
                Some(Some(Ok(item))) => match shown(&item) {
                    Some(text) => return Some((text, Some((items, asker, shown, look_at)))),
                    // an item that this version has no words for
                    None => continue,
                },
                Some(Some(Err(status))) => Problem::from(status),
                None => match asker.recheck().await {
                    Ok(()) => {
                        let look_at = Instant::now() + BEAT_EVERY;
                        let state = Some((items, asker, shown, look_at));
                        return Some((": beat\n\n".to_owned(), state));
                    }
                    Err(problem) => problem,
                },
            };
            return Some((event("error", None, &over), None));
        }
    });
    let body = begin.chain(rest).map(|text| Ok::<_, Infallible>(Bytes::from(text)));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(body)).into_response()
}
