//! Gathers what one input causes: writes of one commit, and the effects that reveal them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Answer, Effect, RequestId, keys};
use crate::{api_server::Refusal, model::NodeId};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) writes: BTreeMap<String, Option<Vec<u8>>>,
    pub(super) effects: Vec<Effect>,
    /// Nodes whose record is to be stored.
    pub(super) touched: BTreeSet<NodeId>,
    /// Nodes that look different to a watcher.
    pub(super) changed: BTreeSet<NodeId>,
}

impl Outbox {
    pub(super) fn put(&mut self, key: impl Into<String>, value: &impl Serialize) {
        self.writes.insert(key.into(), Some(keys::encode(value)));
    }

    pub(super) fn delete(&mut self, key: String) {
        self.writes.insert(key, None);
    }

    /// The record changed: store it, and tell the watchers.
    pub(super) fn touch(&mut self, node: &NodeId) {
        self.touched.insert(node.clone());
        self.changed.insert(node.clone());
    }

    /// Something changed that is not stored.
    pub(super) fn change(&mut self, node: &NodeId) {
        self.changed.insert(node.clone());
    }

    pub(super) fn reply(&mut self, request: RequestId, result: Result<Answer, Refusal>) {
        self.effects.push(Effect::Reply { request, result });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.touched.is_empty()
    }
}
