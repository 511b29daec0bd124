//! The MonitoringServer (HLD §3.1): remembers what nodes tell of themselves, as the performer shows it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use piccolo_core::{
    api_server::Refusal,
    model::{NodeId, NodeView},
    monitoring_server::{
        BYTES_MAX, Extent, MonitoringServer,
        query::{Answer, Query},
    },
};

use crate::clock::MasterClock;

#[derive(Debug)]
pub(crate) struct Monitoring {
    memory: Mutex<MonitoringServer>,
    clock: MasterClock,
}

impl Monitoring {
    pub(crate) fn new(clock: MasterClock) -> Self {
        Self { memory: Mutex::new(MonitoringServer::new(BYTES_MAX)), clock }
    }

    pub(crate) fn seen(&self, view: &NodeView) {
        let now = self.clock.now().wall;
        self.lock().seen(now, view);
    }

    pub(crate) fn removed(&self, node: &NodeId) {
        self.lock().removed(node);
    }

    /// # Errors
    /// The query makes no sense, or is too much.
    pub(crate) fn query(&self, query: &Query) -> Result<Answer, Refusal> {
        let now = self.clock.now().wall;
        self.lock().query(now, query)
    }

    /// The names of what is remembered; of containers where `containers`.
    pub(crate) fn figures(&self, containers: bool) -> Vec<String> {
        self.lock().figures(containers)
    }

    pub(crate) fn extent(&self) -> Extent {
        self.lock().extent()
    }

    fn lock(&self) -> MutexGuard<'_, MonitoringServer> {
        // a panic elsewhere leaves whole series behind
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
