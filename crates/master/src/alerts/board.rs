//! What watchers of alerts see: every alert that is kept, with the revision of its newest change.
//!
//! Nothing is queued for anybody: a watcher takes what has changed since it looked last, however long that is ago.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use piccolo_core::{
    model::Severity,
    monitoring_server::alerts::alert::{Alert, AlertState, Id},
};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct AlertBoard {
    alerts: Mutex<BTreeMap<Id, Arc<Alert>>>,
    changed: watch::Sender<u64>,
}

/// What a watcher has been shown.
#[derive(Debug, Default)]
pub(crate) struct Shown(BTreeMap<Id, u64>);

impl AlertBoard {
    pub(crate) fn new(alerts: impl Iterator<Item = Alert>) -> Self {
        let alerts = alerts.map(|alert| (alert.id, Arc::new(alert))).collect();
        Self { alerts: Mutex::new(alerts), changed: watch::Sender::new(0) }
    }

    /// How many there are of each severity and state.
    pub(crate) fn counts(&self) -> BTreeMap<(Severity, AlertState), usize> {
        let mut counts = BTreeMap::new();
        for alert in self.lock().values() {
            *counts.entry((alert.severity, alert.state)).or_insert(0) += 1;
        }
        counts
    }

    pub(crate) fn changed(&self, alert: Alert) {
        self.lock().insert(alert.id, Arc::new(alert));
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn forgotten(&self, id: Id) {
        self.lock().remove(&id);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What `shown` does not have yet, and what is there no more.
    pub(crate) fn news(&self, shown: &mut Shown) -> (Vec<Arc<Alert>>, Vec<Id>) {
        let alerts = self.lock();
        let is_news = |alert: &&Arc<Alert>| shown.0.get(&alert.id) != Some(&alert.revision);
        let mut changed: Vec<_> = alerts.values().filter(is_news).cloned().collect();
        changed.sort_by_key(|alert| (alert.revision, alert.id));
        let known: BTreeSet<_> = shown.0.keys().copied().collect();
        let gone: Vec<_> = known.into_iter().filter(|id| !alerts.contains_key(id)).collect();
        drop(alerts);
        shown.0.extend(changed.iter().map(|alert| (alert.id, alert.revision)));
        for id in &gone {
            shown.0.remove(id);
        }
        (changed, gone)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Arc<Alert>>> {
        // a panic elsewhere leaves whole entries behind
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
