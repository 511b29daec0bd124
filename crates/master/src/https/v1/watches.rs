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
    view::{
        alert::{AlertView, WatchAlertView},
        event::WatchEventView,
        log::{LineView, WatchLogView},
        node::WatchView,
    },
};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::Status;

use super::{
    asker::{Asker, Params},
    problem::{Problem, Problems},
    reads::SeverityParam,
};

/// Newest lines of each log, where nobody says how many.
const LINES_DEFAULT: u32 = 100;
/// Between two comments, and two looks at whether the watcher still may.
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// For a browser, until it connects again.
const RETRY_MS: u32 = 2_000;

/// Which nodes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
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

/// Every alert that is kept, and then each change, as it happens.
#[utoipa::path(
    get,
    path = "/watch/alerts",
    tag = "watches",
    responses(
        (status = 200, description = "Events `changed`, `forgotten` and, where what came is the whole, `told`; an `error` is the last.", body = WatchAlertView, content_type = "text/event-stream"),
        Problems
    )
)]
pub(super) async fn watch_alerts(asker: Asker) -> Result<Response, Problem> {
    let request = asker.request(v1::WatchAlertsRequest {});
    let items = asker.api.watch_alerts(request).await?.into_inner();
    Ok(streamed(asker, items, |message| {
        use v1::watch_alerts_response::Item;
        // no ids: a new connection begins with everything again
        Some(match message.item.as_ref()? {
            Item::Changed(alert) => {
                let alert = Box::new(AlertView::from(alert));
                event("changed", None, &WatchAlertView::Changed { alert })
            }
            Item::Forgotten(id) => {
                event("forgotten", None, &WatchAlertView::Forgotten { id: id.clone() })
            }
            Item::Told(_) => event("told", None, &WatchAlertView::Told),
        })
    }))
}

/// Which lines of which logs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsParams {
    /// Joined by commas: `NODE`, `NODE:UNIT`, `NODE/CONTAINER`, or `CONTAINER` where one node alone has it. Absent only
    /// with `kept`.
    target: Option<String>,
    /// Of systemd, of the targets that are nodes; absent: the agent's own.
    unit: Option<String>,
    /// The newest of each source; absent: 100; 0: all of them.
    lines: Option<u32>,
    /// As syslog, 0 (emerg) to 7 (debug): so severe at least.
    #[param(minimum = 0, maximum = 7)]
    level: Option<u32>,
    /// In the line, as it is written.
    grep: Option<String>,
    /// RFC 3339.
    since: Option<String>,
    /// RFC 3339.
    until: Option<String>,
    /// Go on with what is logged from now on.
    follow: Option<bool>,
    /// What the master keeps of the nodes' units, instead of what is on the nodes now: then a target is `NODE` or
    /// `NODE:UNIT`, and none is all.
    kept: Option<bool>,
}

/// Lines of logs, in the order of their times.
#[utoipa::path(
    get,
    path = "/watch/logs",
    tag = "watches",
    params(LogsParams),
    responses(
        (status = 200, description = "Events `line`, `notice` and, last, `over`; an `error` is the last too.", body = WatchLogView, content_type = "text/event-stream"),
        (status = 404, description = "There is no such node, or no such container.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The only node that was asked for is away.", body = Problem, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn watch_logs(
    asker: Asker,
    Params(params): Params<LogsParams>,
) -> Result<Response, Problem> {
    let filter = v1::LogFilter {
        since: moment("since", params.since.as_deref())?,
        until: moment("until", params.until.as_deref())?,
        lines: params.lines.unwrap_or(LINES_DEFAULT),
        level: params.level,
        grep: params.grep.unwrap_or_default(),
    };
    let kept = params.kept.unwrap_or(false);
    let request = asker.request(v1::ReadLogsRequest {
        kept,
        all: kept && params.target.is_none(),
        targets: params.target.iter().flat_map(|all| all.split(',')).map(str::to_owned).collect(),
        unit: params.unit.unwrap_or_default(),
        filter: Some(filter),
        follow: params.follow.unwrap_or(false),
        ..Default::default()
    });
    let items = asker.api.read_logs(request).await?.into_inner();
    let mut names = Vec::new();
    Ok(streamed(asker, items, move |message| logged(message, &mut names)))
}

fn logged(message: &v1::ReadLogsResponse, names: &mut Vec<String>) -> Option<String> {
    use v1::read_logs_response::Item;
    let name = |source: u32| names.get(source as usize).cloned().unwrap_or_default();
    Some(match message.item.as_ref()? {
        Item::Sources(told) => {
            *names = told.sources.iter().map(|source| source.name.clone()).collect();
            return None;
        }
        Item::Lines(told) => {
            let lines = told.lines.iter().filter_map(|of| Some((of.source, of.line.as_ref()?)));
            let line =
                |(source, line)| WatchLogView::Line { line: LineView::new(&name(source), line) };
            lines.map(|each| event("line", None, &line(each))).collect()
        }
        Item::Notice(told) => {
            let view = WatchLogView::Notice {
                source: name(told.source),
                reason: told.reason.clone(),
                message: told.message.clone(),
                dropped: told.dropped,
            };
            event("notice", None, &view)
        }
        Item::Over(_) => event("over", None, &WatchLogView::Over),
    })
}

/// RFC 3339.
pub(super) fn moment(
    field: &'static str,
    text: Option<&str>,
) -> Result<Option<Timestamp>, Problem> {
    let moment = text.map(str::parse::<Timestamp>).transpose();
    moment.map_err(|_| {
        let detail = format!("{field}: is no time such as 2030-01-31T12:00:00Z");
        Problem::new(StatusCode::BAD_REQUEST, "InvalidField", detail).field(field)
    })
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
    shown: impl FnMut(&T) -> Option<String> + Send + 'static,
) -> Response {
    let begin = stream::iter([format!("retry: {RETRY_MS}\n\n")]);
    let state = Some((Box::pin(items), asker, shown, Instant::now() + BEAT_EVERY));
    let rest = stream::unfold(state, async |state| {
        let (mut items, asker, mut shown, look_at) = state?;
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
