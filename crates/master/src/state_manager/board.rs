//! What readers and watchers see: every node and event that is durable, and the newest changes.
//!
//! The performer writes it, in the order of the commits. Watchers come and read from where they were; nobody
//! waits for them, and nothing is queued for them. One that falls behind what is kept begins again with a
//! snapshot, and is told so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use piccolo_core::{
    api_server::Selector,
    model::{AuditEnds, Event, EventKind, NodeId, NodeView},
};
use tokio::sync::watch;

/// Bytes of changes that are kept for watchers: at least this, and so much more for each node.
const CHANGES_BYTES_MIN: usize = 512 * 1024;
const CHANGES_BYTES_PER_NODE: usize = 16 * 1024;
const CHANGES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events that are kept in memory; older ones are in the store.
const EVENTS_MAX: usize = 512;
/// Changes that a watcher gets at once.
pub(crate) const CHANGES_AT_ONCE_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    nodes_changed: watch::Sender<u64>,
    events_changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    nodes: BTreeMap<NodeId, Arc<NodeView>>,
    changes: VecDeque<Change>,
    changes_bytes: usize,
    /// The newest revision that is no longer among `changes`.
    forgotten: u64,
    revision: u64,
    events: VecDeque<Arc<Event>>,
    audit: Option<AuditEnds>,
}

#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) what: Changed,
}

#[derive(Debug, Clone)]
pub(crate) enum Changed {
    Node(Arc<NodeView>),
    Removed(NodeId),
}

/// What a watcher of nodes does next.
#[derive(Debug)]
pub(crate) enum NextChanges {
    Changes(Vec<Change>),
    /// Its revision is not kept, or not ours.
    Snapshot {
        reason: &'static str,
    },
}

/// What a watcher of events does next.
#[derive(Debug)]
pub(crate) enum NextEvents {
    Events(Vec<Arc<Event>>),
    /// They are in the store only.
    Stored {
        until: u64,
    },
}

impl Board {
    pub(crate) fn new(
        nodes: impl Iterator<Item = NodeView>,
        revision: u64,
        last_event: u64,
    ) -> Self {
        let nodes = nodes.map(|view| (view.record.id.clone(), Arc::new(view))).collect();
        let inner = Inner {
            nodes,
            changes: VecDeque::new(),
            changes_bytes: 0,
            forgotten: revision,
            revision,
            events: VecDeque::new(),
            audit: None,
        };
        Self {
            inner: Mutex::new(inner),
            nodes_changed: watch::Sender::new(revision),
            events_changed: watch::Sender::new(last_event),
        }
    }

    pub(crate) fn changed(&self, view: NodeView) {
        let (id, revision, view) = (view.record.id.clone(), view.revision, Arc::new(view));
        self.push(revision, Changed::Node(Arc::clone(&view)), |nodes| drop(nodes.insert(id, view)));
    }

    pub(crate) fn removed(&self, id: &NodeId, revision: u64) {
        self.push(revision, Changed::Removed(id.clone()), |nodes| drop(nodes.remove(id)));
    }

    fn push(
        &self,
        revision: u64,
        what: Changed,
        change: impl FnOnce(&mut BTreeMap<NodeId, Arc<NodeView>>),
    ) {
        let mut inner = self.lock();
        change(&mut inner.nodes);
        inner.revision = revision;
        inner.changes_bytes += weight(&what);
        inner.changes.push_back(Change { revision, what });
        let room = CHANGES_BYTES_MIN + inner.nodes.len() * CHANGES_BYTES_PER_NODE;
        while inner.changes_bytes > room.min(CHANGES_BYTES_MAX) {
            let Some(old) = inner.changes.pop_front() else { break };
            inner.changes_bytes = inner.changes_bytes.saturating_sub(weight(&old.what));
            inner.forgotten = old.revision;
        }
        drop(inner);
        self.nodes_changed.send_replace(revision);
    }

    pub(crate) fn happened(&self, event: Event) {
        let id = event.id;
        let mut inner = self.lock();
        inner.events.push_back(Arc::new(event));
        if inner.events.len() > EVENTS_MAX {
            inner.events.pop_front();
        }
        drop(inner);
        self.events_changed.send_replace(id);
    }

    /// The ends of the audit log that are durable.
    pub(crate) fn audited(&self, ends: AuditEnds) {
        self.lock().audit = Some(ends);
    }

    /// `None` before the first commit, which writes them.
    pub(crate) fn audit_ends(&self) -> Option<AuditEnds> {
        self.lock().audit.clone()
    }

    pub(crate) fn nodes(&self, selector: &Selector) -> (Vec<Arc<NodeView>>, u64) {
        let inner = self.lock();
        let selected = inner.nodes.values().filter(|node| selector.selects(&node.record));
        (selected.cloned().collect(), inner.revision)
    }

    /// Of the newest change.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// By id, or by name where no id is the same.
    pub(crate) fn find(&self, text: &str) -> Option<Arc<NodeView>> {
        let inner = self.lock();
        let by_id = inner.nodes.values().find(|view| view.record.id.as_str() == text);
        let by_name = || {
            let mut nodes = inner.nodes.values();
            nodes.find(|view| view.record.name.as_str().eq_ignore_ascii_case(text))
        };
        by_id.or_else(by_name).cloned()
    }

    /// What came after `revision`, [`CHANGES_AT_ONCE_MAX`] at most.
    pub(crate) fn changes_after(&self, revision: u64) -> NextChanges {
        let inner = self.lock();
        if revision < inner.forgotten {
            return NextChanges::Snapshot { reason: "the revision is no longer kept" };
        }
        if revision > inner.revision {
            return NextChanges::Snapshot { reason: "the revision is not of this master" };
        }
        let first = inner.changes.partition_point(|change| change.revision <= revision);
        let next = inner.changes.iter().skip(first).take(CHANGES_AT_ONCE_MAX);
        NextChanges::Changes(next.cloned().collect())
    }

    pub(crate) fn events_after(&self, id: u64) -> NextEvents {
        let inner = self.lock();
        match inner.events.front() {
            // the ids before a restored master's first event were never given out, or by the lost one: it tells
            Some(oldest) if oldest.id > id + 1 && oldest.kind != EventKind::ClusterRestored => {
                NextEvents::Stored { until: oldest.id - 1 }
            }
            Some(_) => {
                let first = inner.events.partition_point(|event| event.id <= id);
                let next = inner.events.iter().skip(first).take(CHANGES_AT_ONCE_MAX);
                NextEvents::Events(next.cloned().collect())
            }
            None if self.last_event() > id => NextEvents::Stored { until: self.last_event() },
            None => NextEvents::Events(Vec::new()),
        }
    }

    /// The newest event that is durable.
    pub(crate) fn last_event(&self) -> u64 {
        *self.events_changed.borrow()
    }

    pub(crate) fn watch_nodes(&self) -> watch::Receiver<u64> {
        self.nodes_changed.subscribe()
    }

    pub(crate) fn watch_events(&self) -> watch::Receiver<u64> {
        self.events_changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // a panic elsewhere leaves whole entries behind
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how many bytes a change takes.
fn weight(change: &Changed) -> usize {
    match change {
        Changed::Node(view) => {
            let containers = view.containers.len() * 512;
            let metrics: usize = view.metrics.iter().map(|(k, v)| k.len() + v.len() + 64).sum();
            let labels: usize =
                view.record.labels.iter().map(|(k, v)| k.len() + v.len() + 64).sum();
            let conditions: usize =
                view.record.conditions.iter().map(|c| c.message.len() + 128).sum();
            1024 + containers + metrics + labels + conditions
        }
        Changed::Removed(_) => 128,
    }
}

#[cfg(test)]
mod tests;
