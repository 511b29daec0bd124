//! Watching nodes and events (HLD §7.1.1; docs/protocol.md).
//!
//! A watcher has a place in what happened and reads on from there. One that falls behind what is kept is told so
//! and begins again; it never misses something silently. One that does not read at all is dropped after a
//! while; nobody waits for it. With the certificate of whoever watches the watch ends too, and says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use piccolo_core::{
    api_server::{Call, Caller, Code, Refusal, Selector},
    model::{EventKind, FieldError, NodeId, NodeView},
};
use piccolo_rpc::{status, tls::acceptor::peer_of, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request as Asked, Response, Status};

use super::{Answered, Api, Streamed, history::EventFilter};
use crate::{
    clock::MasterClock,
    state_manager::board::{Change, Changed, NextChanges, NextEvents},
};

/// Watchers of all kinds at once.
const WATCHERS_MAX: usize = 256;
/// Of them, those of one caller: a program that leaves watches open must not lock everybody else out.
const WATCHERS_PER_CALLER_MAX: usize = 64;
/// Items that wait for one watcher beside what HTTP/2 holds; the rest waits in the board.
const ITEMS_MAX: usize = 4;
/// Without progress for so long a watcher is dropped.
const STALLED_MAX: Duration = Duration::from_secs(30);
/// A clock that is set forward is noticed this soon.
const CLOCK_LOOK_EVERY: Duration = Duration::from_secs(10);
/// Stored events that are read for a watcher at once.
const STORED_EVENTS: usize = 200;

/// Why a watch is over.
#[derive(Debug)]
pub(super) enum Over {
    /// It has gone by itself.
    Gone,
    Frozen,
    Stopping,
    /// The certificate that it was opened with has ended.
    Lapsed(Refusal),
    Failed(Status),
}

/// The sending end of one watch.
pub(super) struct Watcher<T> {
    pub(super) api: Api,
    items: mpsc::Sender<Result<T, Status>>,
    connection: Option<u64>,
    by: Caller,
    stopping: tokio::sync::watch::Receiver<bool>,
    /// Free again when the watch is over.
    _place: Place,
}

/// Who watches: how often by caller.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<BTreeMap<String, usize>>);

/// Counted until it is dropped.
struct Place {
    watchers: Arc<Watchers>,
    who: String,
}

pub(super) async fn watch_nodes(
    api: &Api,
    request: Asked<v1::WatchNodesRequest>,
) -> Answered<Streamed<v1::WatchNodesResponse>> {
    let by = api.admit_read(&request, Call::WatchNodes).await?;
    let connection = peer_of(&request).map(|peer| peer.connection);
    let wire = request.into_inner();
    let selector = match Selector::parse(&wire.filter.unwrap_or_default()) {
        Ok(selector) => selector,
        Err(refusal) => return Err(api.refuse(by, Call::WatchNodes, refusal).await),
    };
    let (watcher, stream) = Watcher::new(api, &by, connection)?;
    let from = wire.from_revision;
    tokio::spawn(watcher.follow(move |watcher| Box::pin(nodes(watcher, selector, from))));
    Ok(Response::new(stream))
}

pub(super) async fn watch_events(
    api: &Api,
    request: Asked<v1::WatchEventsRequest>,
) -> Answered<Streamed<v1::WatchEventsResponse>> {
    let by = api.admit_read(&request, Call::WatchEvents).await?;
    let connection = peer_of(&request).map(|peer| peer.connection);
    let wire = request.into_inner();
    let last = api.board.last_event();
    let filter = EventFilter::new(wire.node, wire.minimum_severity).and_then(|filter| {
        if wire.after_id > last {
            let problem = format!("{} is not there yet; the newest is {last}", wire.after_id);
            return Err(FieldError::new("after_id", problem));
        }
        Ok(filter)
    });
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) => return Err(api.refuse(by, Call::WatchEvents, error.into()).await),
    };
    let after = if wire.from_now { last } else { wire.after_id };
    let (watcher, stream) = Watcher::new(api, &by, connection)?;
    tokio::spawn(watcher.follow(move |watcher| Box::pin(events(watcher, filter, after))));
    Ok(Response::new(stream))
}

/// Every node first, or what came after `from`; then each change.
async fn nodes(
    watcher: &mut Watcher<v1::WatchNodesResponse>,
    selector: Selector,
    from: u64,
) -> Result<(), Over> {
    let mut changed = watcher.api.board.watch_nodes();
    let mut seen = Seen { selector, ids: BTreeSet::new() };
    let mut at = from;
    if from == 0 {
        at = snapshot(watcher, &mut seen, "the beginning").await?;
    }
    loop {
        changed.borrow_and_update();
        match watcher.api.board.changes_after(at) {
            NextChanges::Snapshot { reason } => at = snapshot(watcher, &mut seen, reason).await?,
            NextChanges::Changes(changes) if changes.is_empty() => {
                watcher.wait(&mut changed).await?;
            }
            NextChanges::Changes(changes) => {
                for change in changes {
                    at = change.revision;
                    if let Some(item) = seen.item(change) {
                        watcher.send(item).await?;
                    }
                }
            }
        }
    }
}

async fn snapshot(
    watcher: &mut Watcher<v1::WatchNodesResponse>,
    seen: &mut Seen,
    reason: &str,
) -> Result<u64, Over> {
    use v1::watch_nodes_response::Item;
    let (nodes, revision) = watcher.api.board.nodes(&seen.selector);
    let begin = Item::SnapshotBegin(v1::SnapshotBegin { reason: reason.to_owned() });
    watcher.send(v1::WatchNodesResponse { item: Some(begin), revision }).await?;
    seen.ids.clear();
    for view in nodes {
        seen.ids.insert(view.record.id.clone());
        watcher.send(changed(&view, revision)).await?;
    }
    let end = Item::SnapshotEnd(v1::SnapshotEnd {});
    watcher.send(v1::WatchNodesResponse { item: Some(end), revision }).await?;
    Ok(revision)
}

/// What a watcher knows of: a node that does not fit its filter any more is removed for it.
struct Seen {
    selector: Selector,
    ids: BTreeSet<NodeId>,
}

impl Seen {
    fn item(&mut self, change: Change) -> Option<v1::WatchNodesResponse> {
        let Change { revision, what } = change;
        match what {
            Changed::Node(view) if self.selector.selects(&view.record) => {
                self.ids.insert(view.record.id.clone());
                Some(changed(&view, revision))
            }
            // a watch that was resumed may have seen it before
            Changed::Node(view) if self.has_filter() => {
                self.ids.remove(&view.record.id);
                Some(removed(&view.record.id, revision))
            }
            Changed::Node(_) => None,
            Changed::Removed(id) => {
                self.ids.remove(&id);
                Some(removed(&id, revision))
            }
        }
    }

    fn has_filter(&self) -> bool {
        self.selector != Selector::default()
    }
}

fn changed(view: &NodeView, revision: u64) -> v1::WatchNodesResponse {
    let item = Some(v1::watch_nodes_response::Item::Changed(view.into()));
    v1::WatchNodesResponse { item, revision }
}

fn removed(id: &NodeId, revision: u64) -> v1::WatchNodesResponse {
    let item = Some(v1::watch_nodes_response::Item::Removed(id.to_string()));
    v1::WatchNodesResponse { item, revision }
}

/// Everything after `after`, from the store as far as memory does not have it.
async fn events(
    watcher: &mut Watcher<v1::WatchEventsResponse>,
    filter: EventFilter,
    mut after: u64,
) -> Result<(), Over> {
    use v1::watch_events_response::Item;
    let mut changed = watcher.api.board.watch_events();
    loop {
        changed.borrow_and_update();
        match watcher.api.board.events_after(after) {
            NextEvents::Events(events) if events.is_empty() => watcher.wait(&mut changed).await?,
            NextEvents::Events(events) => {
                for event in events {
                    after = event.id;
                    if filter.selects(&event) {
                        let item = Some(Item::Event(event.as_ref().clone().into()));
                        watcher.send(v1::WatchEventsResponse { item }).await?;
                    }
                }
            }
            NextEvents::Stored { until } => after = stored(watcher, &filter, after, until).await?,
        }
    }
}

/// Some of the events up to `until`; says where it came to.
async fn stored(
    watcher: &mut Watcher<v1::WatchEventsResponse>,
    filter: &EventFilter,
    after: u64,
    until: u64,
) -> Result<u64, Over> {
    use v1::watch_events_response::Item;
    let everything =
        EventFilter::new(String::new(), 0).map_err(|e| Over::Failed(status::field_status(e)))?;
    let first = watcher.api.published.first_event.load(Ordering::Relaxed);
    let found = watcher.api.events_between(after, until, STORED_EVENTS, &everything).await;
    let found = found.map_err(Over::Failed)?;
    // retired while we read, or long ago
    let none = if first > after + 1 { first } else { until + 1 };
    let kept = found.first().map_or(none, |event| event.id);
    let restored = found.first().is_some_and(|event| event.kind == EventKind::ClusterRestored);
    if kept > after + 1 && !restored {
        let missed = v1::EventsMissed { first_id: after + 1, last_id: kept - 1 };
        watcher.send(v1::WatchEventsResponse { item: Some(Item::Missed(missed)) }).await?;
    }
    let last = found.last().map_or(kept - 1, |event| event.id);
    for event in found.into_iter().filter(|event| filter.selects(event)) {
        let item = Some(Item::Event(event.into()));
        watcher.send(v1::WatchEventsResponse { item }).await?;
    }
    Ok(last)
}

impl<T: Send + 'static> Watcher<T> {
    pub(super) fn new(
        api: &Api,
        by: &Caller,
        connection: Option<u64>,
    ) -> Result<(Self, Streamed<T>), Status> {
        let place = api.watchers.take_place(by.who());
        let place = place.map_err(|refusal| status::status(&refusal))?;
        let (items, receiver) = mpsc::channel(ITEMS_MAX);
        let stopping = api.stopping.clone();
        let (api, by) = (api.clone(), by.clone());
        let watcher = Self { api, items, connection, by, stopping, _place: place };
        Ok((watcher, Box::pin(ReceiverStream::new(receiver))))
    }

    pub(super) async fn follow<F>(mut self, steps: F)
    where
        F: for<'a> FnOnce(
            &'a mut Self,
        )
            -> std::pin::Pin<Box<dyn Future<Output = Result<(), Over>> + Send + 'a>>,
    {
        let lapsed = lapsed(self.api.clock.clone(), self.by.clone());
        let over = tokio::select! {
            over = steps(&mut self) => over,
            refusal = lapsed => Err(Over::Lapsed(refusal)),
        };
        match over {
            Ok(()) | Err(Over::Gone) => {}
            Err(Over::Stopping) => {
                let refusal = Refusal::new(Code::Unavailable, "Stopping", "the master stops");
                self.items.try_send(Err(status::status(&refusal))).ok();
            }
            Err(Over::Lapsed(refusal)) => {
                // behind what waits for a reader who is slow, but not for ever
                let last = self.items.send(Err(status::status(&refusal)));
                tokio::time::timeout(STALLED_MAX, last).await.ok();
            }
            Err(Over::Failed(status)) => drop(self.items.try_send(Err(status))),
            Err(Over::Frozen) => {
                tracing::warn!(
                    "a watcher did not read for {} s and was dropped",
                    STALLED_MAX.as_secs()
                );
                self.api.figures.watchers_dropped.fetch_add(1, Ordering::Relaxed);
                if let Some(connection) = self.connection {
                    self.api.connections.close_one(connection);
                }
            }
        }
    }

    pub(super) async fn send(&mut self, item: T) -> Result<(), Over> {
        tokio::select! {
            sent = tokio::time::timeout(STALLED_MAX, self.items.send(Ok(item))) => match sent {
                Err(_) => Err(Over::Frozen),
                Ok(Err(_)) => Err(Over::Gone),
                Ok(Ok(())) => Ok(()),
            },
            _ = self.stopping.wait_for(|stopping| *stopping) => Err(Over::Stopping),
        }
    }

    /// Waits until nobody reads any more.
    pub(super) async fn over(&mut self) -> Over {
        tokio::select! {
            () = self.items.closed() => Over::Gone,
            _ = self.stopping.wait_for(|stopping| *stopping) => Over::Stopping,
        }
    }

    pub(super) async fn wait(
        &mut self,
        changed: &mut tokio::sync::watch::Receiver<u64>,
    ) -> Result<(), Over> {
        tokio::select! {
            changed = changed.changed() => changed.map_err(|_| Over::Stopping),
            () = self.items.closed() => Err(Over::Gone),
            _ = self.stopping.wait_for(|stopping| *stopping) => Err(Over::Stopping),
        }
    }
}

/// Comes when the certificate of whoever watches has ended. Tokens and sessions are looked at again by those who take
/// them.
async fn lapsed(clock: MasterClock, by: Caller) -> Refusal {
    let Some(end) = by.expires_at.filter(|_| by.credential.is_none()) else {
        return std::future::pending().await;
    };
    // in its last second it is good still
    let over = end.plus(Duration::from_secs(1));
    loop {
        let left = over.since(clock.now().wall);
        if left.is_zero() {
            return by.lapsed();
        }
        tokio::time::sleep(left.min(CLOCK_LOOK_EVERY)).await;
    }
}

impl Watchers {
    fn take_place(self: &Arc<Self>, who: String) -> Result<Place, Refusal> {
        let mut by_caller = self.lock();
        let own = by_caller.get(&who).copied().unwrap_or(0);
        let message = if own >= WATCHERS_PER_CALLER_MAX {
            format!("{who} has {own} watches open, and no more may come")
        } else if by_caller.values().sum::<usize>() >= WATCHERS_MAX {
            format!("there are {WATCHERS_MAX} watchers, and no more may come")
        } else {
            by_caller.insert(who.clone(), own + 1);
            return Ok(Place { watchers: Arc::clone(self), who });
        };
        let refusal = Refusal::new(Code::ResourceExhausted, "TooManyWatchers", message);
        Err(refusal.help("close watches that nobody needs any more"))
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_caller = self.watchers.lock();
        if let Some(own) = by_caller.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                by_caller.remove(&self.who);
            }
        }
    }
}
