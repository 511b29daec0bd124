//! A watch that survives its connections.
//!
//! It remembers the last revision it told and asks for the next one wherever it connects again.
//! Three traps of etcd are dealt with here:
//!
//! * An answer in fragments may cut a revision in two: changes are told when the next revision
//!   begins or the answer is whole.
//! * etcd 3.4 may lose a delete at exactly the compacted revision (etcd issue 18089). So we ask for
//!   one revision more than we need and drop it: then such a watch is refused as compacted instead.
//! * A server restored from an old backup would let us wait for ever: a revision below the one seen
//!   ends the watch.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{Status, Streaming};

use crate::{
    Change, Error, Revision, WatchItem,
    etcd::{
        Shared,
        connection::{Meaning, meaning, refusal},
        wire::{
            self,
            etcdserverpb::{
                WatchCreateRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
                watch_request,
            },
        },
    },
};

/// Pause before the first attempt to connect again; it doubles up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often access may be refused in a row (a token may just have ended) before the watch gives
/// up.
const REFUSALS_MAX: usize = 3;

/// Where a watch is.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) prefix: String,
    /// The next revision to tell.
    pub(crate) next: Revision,
}

/// Why a connection ended.
enum End {
    /// Connect again.
    Broken(String),
    /// Access was refused; perhaps only the token is old.
    Refused(Error),
    /// Tell the watcher, and stop.
    Last(WatchItem),
    /// Nobody listens any more, or the store was closed.
    Unwanted,
}

/// Tells everything from a position on until nobody listens or it becomes impossible.
pub(crate) async fn follow(
    store: std::sync::Weak<Shared>,
    mut at: Position,
    items: mpsc::Sender<WatchItem>,
) {
    let mut backoff = BACKOFF_MIN;
    let mut refusals = 0;
    loop {
        let start = at.next;
        let mut connected = false;
        let end = tokio::select! {
            end = follow_once(&store, &mut at, &items, &mut connected) => end,
            () = items.closed() => End::Unwanted,
        };
        if connected || at.next > start {
            backoff = BACKOFF_MIN;
            refusals = 0;
        }
        match end {
            End::Unwanted => return,
            End::Last(item) => {
                items.send(item).await.ok();
                return;
            }
            End::Refused(error) => {
                refusals += 1;
                if refusals >= REFUSALS_MAX {
                    items.send(WatchItem::Failed(error)).await.ok();
                    return;
                }
            }
            End::Broken(cause) => {
                tracing::debug!(
                    prefix = at.prefix,
                    next = at.next,
                    cause,
                    "watch lost its connection"
                );
            }
        }
        tokio::select! {
            () = sleep(jittered(backoff)) => {}
            () = items.closed() => return,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn follow_once(
    store: &std::sync::Weak<Shared>,
    at: &mut Position,
    items: &mpsc::Sender<WatchItem>,
    connected: &mut bool,
) -> End {
    let Some(shared) = store.upgrade() else { return End::Unwanted };
    let opened = open(&shared, at).await;
    drop(shared);
    let (mut answers, _requests) = match opened {
        Ok(open) => open,
        Err(end) => return end,
    };
    let mut whole = Whole::default();
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return End::Broken("etcd closed the stream".to_owned()),
            Err(status) => return broken(store, &status),
        };
        let Some(shared) = store.upgrade() else {
            return End::Unwanted;
        };
        if let Err(error) = shared.cluster.accept(&answer, 0) {
            return End::Last(WatchItem::Failed(error));
        }
        if answer.canceled {
            return canceled(&shared, at, &answer);
        }
        drop(shared);
        if answer.created {
            *connected = true;
            continue;
        }
        let ready = match whole.take(answer) {
            Ok(ready) => ready,
            Err(error) => return End::Last(WatchItem::Failed(error)),
        };
        for (revision, changes) in ready.changes {
            if revision < at.next {
                continue;
            }
            if items.send(WatchItem::Changes { revision, changes }).await.is_err() {
                return End::Unwanted;
            }
            at.next = revision + 1;
        }
        at.next = at.next.max(ready.next);
    }
}

type Opened = (Streaming<WatchResponse>, mpsc::Sender<WatchRequest>);

/// Connects to an endpoint that answers. The returned sender keeps our half of the stream open.
async fn open(shared: &Shared, at: &Position) -> std::result::Result<Opened, End> {
    let cluster = &shared.cluster;
    // Whether the data are still the ones we know, and not an older state that would let us wait
    // for ever.
    match shared.current_revision().await {
        Ok(_) => {}
        Err(error @ (Error::Corrupt { .. } | Error::Incomplete { .. })) => {
            return Err(End::Last(WatchItem::Failed(error)));
        }
        Err(error @ Error::Denied { .. }) => return Err(End::Refused(error)),
        Err(error) => return Err(End::Broken(error.to_string())),
    }
    let (requests, receiver) = mpsc::channel(1);
    requests.try_send(create_request(at)).ok();
    let limit = cluster.options().attempt_deadline;
    let attempt = async {
        let outgoing = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|request| (request, receiver))
        });
        let (channel, index, request) = cluster.prepare(outgoing).await?;
        let answer = WatchClient::new(channel).watch(request).await;
        answer.map_err(|status| (index, status))
    };
    match timeout(limit, attempt).await {
        Ok(Ok(response)) => Ok((response.into_inner(), requests)),
        Ok(Err((index, status))) => {
            cluster.move_on(index);
            Err(after(shared, &status))
        }
        Err(_) => Err(End::Broken("no answer in time".to_owned())),
    }
}

fn create_request(at: &Position) -> WatchRequest {
    let create = WatchCreateRequest {
        key: at.prefix.as_bytes().to_vec(),
        range_end: wire::range_end(&at.prefix),
        start_revision: wire::wire_revision(at.next.saturating_sub(1).max(1)),
        progress_notify: true,
        fragment: true,
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) }
}

fn broken(store: &std::sync::Weak<Shared>, status: &Status) -> End {
    match store.upgrade() {
        Some(shared) => after(&shared, status),
        None => End::Unwanted,
    }
}

fn after(shared: &Shared, status: &Status) -> End {
    match meaning(status) {
        Meaning::TokenOld => {
            shared.cluster.forget_token();
            End::Broken("the token ended".to_owned())
        }
        Meaning::NotSent { problem, .. } | Meaning::Unknown(problem) => End::Broken(problem),
        Meaning::Refused => End::Refused(refusal(shared.cluster.location(), status)),
    }
}

/// etcd ended the watch and says why.
fn canceled(shared: &Shared, at: &Position, answer: &WatchResponse) -> End {
    if answer.compact_revision > 0 {
        let compact_revision = wire::revision(answer.compact_revision);
        return End::Last(WatchItem::Compacted { compact_revision });
    }
    // An old token shows as "permission denied" here: try with a new one before believing it.
    if answer.cancel_reason.contains("permission denied") || answer.cancel_reason.contains("auth") {
        shared.cluster.forget_token();
        let problem =
            format!("{}: {} for {}", shared.cluster.location(), answer.cancel_reason, at.prefix);
        return End::Refused(Error::Denied { problem });
    }
    End::Broken(answer.cancel_reason.clone())
}

/// Puts revisions together that came in pieces.
#[derive(Debug, Default)]
struct Whole {
    pending: Vec<(Revision, Vec<Change>)>,
}

struct Ready {
    changes: Vec<(Revision, Vec<Change>)>,
    /// Everything before this revision was told.
    next: Revision,
}

impl Whole {
    fn take(&mut self, answer: WatchResponse) -> crate::Result<Ready> {
        let progress = answer.events.is_empty() && !answer.fragment && self.pending.is_empty();
        for event in answer.events {
            let (revision, change) = wire::change(event)?;
            match self.pending.last_mut() {
                Some((last, changes)) if *last == revision => changes.push(change),
                Some(_) | None => self.pending.push((revision, vec![change])),
            }
        }
        let last = if answer.fragment { self.pending.pop() } else { None };
        let changes = std::mem::take(&mut self.pending);
        self.pending.extend(last);
        let header = answer.header.map_or(0, |header| wire::revision(header.revision));
        Ok(Ready { changes, next: if progress { header + 1 } else { 0 } })
    }
}

/// Half to all of a pause, so that many watchers do not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0];
    getrandom::fill(&mut random).ok();
    pause / 2 + pause.mul_f64(f64::from(random[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::wire::mvccpb;

    #[test]
    fn a_revision_in_pieces_is_told_whole() {
        let mut whole = Whole::default();
        let mut take = |events: &[(u64, &str)], fragment| {
            let ready = whole.take(answer(events, fragment)).unwrap();
            ready.changes.iter().map(|(r, c)| (*r, c.len())).collect::<Vec<_>>()
        };
        assert_eq!(take(&[(5, "a"), (6, "a")], true), [(5, 1)]);
        assert_eq!(take(&[(6, "b")], true), []);
        assert_eq!(take(&[(6, "c"), (7, "a")], true), [(6, 3)]);
        assert_eq!(take(&[(7, "b")], false), [(7, 2)]);
        assert_eq!(take(&[(8, "a")], false), [(8, 1)]);
    }

    #[test]
    fn an_answer_without_events_says_how_far_we_are() {
        let mut whole = Whole::default();
        assert_eq!(whole.take(answer(&[], false)).unwrap().next, 100);
        assert_eq!(whole.take(answer(&[(99, "a")], true)).unwrap().next, 0);
    }

    fn answer(events: &[(u64, &str)], fragment: bool) -> WatchResponse {
        let header = wire::etcdserverpb::ResponseHeader { revision: 99, ..Default::default() };
        let event = |(revision, key): &(u64, &str)| mvccpb::Event {
            kv: Some(mvccpb::KeyValue {
                key: key.as_bytes().to_vec(),
                mod_revision: wire::wire_revision(*revision),
                ..Default::default()
            }),
            ..Default::default()
        };
        let events = events.iter().map(event).collect();
        WatchResponse { header: Some(header), fragment, events, ..Default::default() }
    }
}
