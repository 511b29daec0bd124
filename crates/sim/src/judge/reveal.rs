//! Nothing is shown to anybody that the store does not hold: a crash must not make it untrue.

use piccolo_core::{
    model::{ConditionKind, NodeRecord},
    session::ToAgent,
    state_manager::{Answer, Effect, Transaction, keys},
};

use super::Judge;
use crate::store::Store;

impl Judge {
    pub(super) fn nothing_revealed_before_committed(
        &self,
        effect: &Effect,
        store: &Store,
    ) -> Result<(), String> {
        match effect {
            Effect::Changed(view) => {
                let shown = &view.record;
                let Some(stored) = store.nodes.get(&shown.id) else {
                    return Err(format!("{} is shown, and is not stored", shown.id));
                };
                let kinds = |record: &NodeRecord| {
                    let kinds = record.conditions.iter().map(|c| c.kind);
                    kinds.filter(|k| *k != ConditionKind::Suspect).collect::<Vec<_>>()
                };
                let same = (shown.status, shown.applied_generation, shown.acknowledged_sequence)
                    == (stored.status, stored.applied_generation, stored.acknowledged_sequence)
                    && (&shown.name, shown.initialized, &shown.labels, &shown.key_fingerprint)
                        == (
                            &stored.name,
                            stored.initialized,
                            &stored.labels,
                            &stored.key_fingerprint,
                        )
                    && kinds(shown) == kinds(stored);
                if same { Ok(()) } else { Err(format!("shown {shown:?}, stored {stored:?}")) }
            }
            Effect::Removed { node, .. } if store.nodes.contains_key(node) => {
                Err(format!("{node} is said to be gone, and is stored"))
            }
            Effect::Happened(event) if self.last_event < event.id => {
                Err(format!("event {} is told, and {} is stored", event.id, self.last_event))
            }
            Effect::Send { node, message, .. } => self.sent(node, message, store),
            Effect::SendCertificate { node, csr, .. } => {
                let key = String::from_utf8_lossy(csr);
                match store.nodes.get(node) {
                    Some(record) if record.key_fingerprint == key => Ok(()),
                    other => Err(format!("a certificate for {key}, stored is {other:?}")),
                }
            }
            Effect::Reply { result: Ok(answer), .. } => self.replied(answer, store),
            Effect::Reply { result: Err(_), .. }
            | Effect::Commit(_)
            | Effect::Close { .. }
            | Effect::Removed { .. }
            | Effect::Alerted(_)
            | Effect::AlertForgotten(_)
            | Effect::Dispatch(_)
            | Effect::Missed { .. }
            | Effect::Happened(_) => Ok(()),
        }
    }

    fn sent(
        &self,
        node: &piccolo_core::model::NodeId,
        message: &ToAgent,
        store: &Store,
    ) -> Result<(), String> {
        let stored = store.nodes.get(node).map(|record| record.acknowledged_sequence);
        match message {
            ToAgent::EventAck { sequence } if stored.is_none_or(|stored| *sequence > stored) => {
                Err(format!("{node}: {sequence} is acknowledged, {stored:?} is stored"))
            }
            ToAgent::Config { generation, .. } if *generation > self.generation => {
                Err(format!("generation {generation} is sent, {} is stored", self.generation))
            }
            _ => Ok(()),
        }
    }

    fn replied(&self, answer: &Answer, store: &Store) -> Result<(), String> {
        match answer {
            Answer::Token(token) if !store.tokens.contains_key(&token.hash) => {
                Err("a token is handed out, and is not stored".to_owned())
            }
            Answer::User(user) if !store.contains(&keys::user(&user.name)) => {
                Err("a user is made, and is not stored".to_owned())
            }
            Answer::Topology(view) if view.record.generation > self.generation => {
                Err(format!("generation {} is not stored", view.record.generation))
            }
            Answer::Registered(registered) => match store.nodes.get(&registered.node) {
                Some(_) => Ok(()),
                None => Err(format!("{} is told that it is registered", registered.node)),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn names_are_unique(
        &self,
        store: &Store,
        transaction: &Transaction,
    ) -> Result<(), String> {
        let written = transaction.writes.keys().filter_map(|key| key.strip_prefix(keys::NODES));
        for id in written {
            let Some(node) = store.nodes.values().find(|node| node.id.as_str() == id) else {
                continue;
            };
            let name = node.name.as_str();
            let same = |other: &NodeRecord| {
                other.id != node.id && other.name.as_str().eq_ignore_ascii_case(name)
            };
            if store.nodes.values().any(same) {
                return Err(format!("two nodes are called {name}"));
            }
        }
        Ok(())
    }
}
